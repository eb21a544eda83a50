// Torch's dtypes and their names in files.
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace ecoformer::io {

inline constexpr std::array<std::pair<std::string_view, at::ScalarType>, 16> kScalarTypes{
    {{"BOOL", at::kBool},
     {"U8", at::kByte},
     {"I8", at::kChar},
     {"U16", at::kUInt16},
     {"I16", at::kShort},
     {"U32", at::kUInt32},
     {"I32", at::kInt},
     {"U64", at::kUInt64},
     {"I64", at::kLong},
     {"F16", at::kHalf},
     {"BF16", at::kBFloat16},
     {"F32", at::kFloat},
     {"F64", at::kDouble},
     {"C64", at::kComplexFloat},
     {"F8_E5M2", at::kFloat8_e5m2},
     {"F8_E4M3", at::kFloat8_e4m3fn}}};

/// `name` is one of `kDtypes`.
inline at::ScalarType scalar_type_of(std::string_view name) {
  return std::find_if(kScalarTypes.begin(), kScalarTypes.end(),
                      [name](const auto& entry) { return entry.first == name; })
      ->second;
}

}  // namespace ecoformer::io
