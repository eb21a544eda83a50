// Tensors from any file that can be read, whichever its format.
#pragma once

#include <filesystem>

#include "ecoformer/io/safetensors.h"

namespace ecoformer::io {

enum class TensorFormat { kSafetensors, kPth };

/// The format of a file by its first bytes; its name does not matter. Throws InputError if the file
/// cannot be read or begins like neither.
TensorFormat tensor_format(const std::filesystem::path& path);

/// `read_safetensors` or `read_pth`, by `tensor_format`.
TensorFile read_tensor_file(const std::filesystem::path& path);

}  // namespace ecoformer::io
