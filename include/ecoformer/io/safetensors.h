// Tensors by name in one file: reading, writing and picking from safetensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ecoformer/io/safetensors_header.h"

namespace ecoformer::io {

/// The content of a safetensors file, tensors on the CPU.
struct TensorFile {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, std::string> metadata;
  std::string source{};  ///< where it was read from, for messages; not written
};

/// Reads a whole file. Dtypes: BOOL, U8, I8, U16, I16, U32, I32, U64, I64, F16, BF16, F32, F64,
/// C64, F8_E5M2, F8_E4M3. Throws InputError naming file and reason if the file cannot be read or
/// breaks any rule of the format. Needs no memory beyond the tensors and the header.
TensorFile read_safetensors(const std::filesystem::path& path);

/// The same for a file in memory, whose data is copied; `source` names it in messages.
TensorFile parse_safetensors(std::span<const std::byte> bytes, const std::string& source);

/// Writes tensors of any strides and device, atomically. Equal content gives equal bytes. Throws
/// InputError if a tensor's dtype or layout or a text has no place in the format, and Error if the
/// file cannot be written.
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

/// The tensor `name` of `file`, which must have the given dtype and shape, where given; -1 in
/// `shape` stands for any size. Throws InputError naming file, tensor, what was expected and found.
at::Tensor take(const TensorFile& file, const std::string& name,
                std::optional<at::ScalarType> dtype = std::nullopt,
                const std::optional<std::vector<std::int64_t>>& shape = std::nullopt);

}  // namespace ecoformer::io
