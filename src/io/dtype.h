// Element types by the names that safetensors gives them, which stand for dtypes throughout io's
// torch-free parts, and the limits that every tensor keeps.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

namespace ecoformer::io {

struct Dtype {
  std::string_view name;
  std::uint64_t bytes;
};

inline constexpr std::array<Dtype, 16> kDtypes{{{"BOOL", 1},
                                                {"U8", 1},
                                                {"I8", 1},
                                                {"U16", 2},
                                                {"I16", 2},
                                                {"U32", 4},
                                                {"I32", 4},
                                                {"U64", 8},
                                                {"I64", 8},
                                                {"F16", 2},
                                                {"BF16", 2},
                                                {"F32", 4},
                                                {"F64", 8},
                                                {"C64", 8},
                                                {"F8_E5M2", 1},
                                                {"F8_E4M3", 1}}};

/// What torch's operators accept.
inline constexpr std::size_t kMostDimensions = 64;

/// The dtype of that name, or nullptr.
inline const Dtype* find_dtype(std::string_view name) {
  const auto* dtype = std::find_if(kDtypes.begin(), kDtypes.end(), [name](const Dtype& candidate) {
    return candidate.name == name;
  });
  return dtype == kDtypes.end() ? nullptr : dtype;
}

/// Bytes of a dense tensor with non-negative dimensions, or nothing if they exceed 63 bits. Zeros
/// are left out of the product that is checked, since strides are computed without them.
inline std::optional<std::uint64_t> dense_bytes(const std::vector<std::int64_t>& shape,
                                                std::uint64_t element_bytes) {
  bool is_empty = false;
  std::uint64_t bytes = element_bytes;
  for (const std::int64_t size : shape) {
    is_empty = is_empty || size == 0;
    const auto factor = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
    if (bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / factor) {
      return std::nullopt;
    }
    bytes *= factor;
  }
  return is_empty ? 0 : bytes;
}

}  // namespace ecoformer::io
