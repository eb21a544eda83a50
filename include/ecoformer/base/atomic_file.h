// Files appear whole or not at all: write to a temporary name beside the target, then rename.
#pragma once

#include <filesystem>
#include <functional>
#include <ostream>
#include <string_view>

namespace ecoformer {

/// Writes `path` by calling `write` on a stream to a temporary file in the same folder, flushing it
/// to the disk and renaming it over `path`. On any failure the temporary file is removed, an
/// existing `path` is left untouched, and Error names the path and the system's reason.
void write_atomically(const std::filesystem::path& path,
                      const std::function<void(std::ostream&)>& write);

/// The same for content that is already in memory.
void write_atomically(const std::filesystem::path& path, std::string_view content);

}  // namespace ecoformer
