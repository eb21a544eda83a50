// Tensors of files that torch.save wrote.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "ecoformer/io/safetensors.h"

namespace ecoformer::io {

/// Reads the state from a file of torch.save; which of its tensors that is, what else the metadata
/// holds, and what is refused is told in pth_index.h. What was left out stands in the metadata
/// `pth.ignored`, as "name (what), ...".
///
/// Tensors are on the CPU, have the strides of the file, need no gradient, and share memory where
/// they shared a storage. Throws InputError naming file and reason. Needs no memory beyond the
/// storages that the tensors use and the index.
TensorFile read_pth(const std::filesystem::path& path);

/// The same for a file in memory, whose data is copied; `source` names it in messages.
TensorFile parse_pth(std::span<const std::byte> bytes, const std::string& source);

}  // namespace ecoformer::io
