// Folders and files as the data sets read them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ecoformer::data {

enum class Entries { kFolders, kFiles };

/// The names of the folders in `folder`, or of everything else in it, in byte order and without
/// those that start with a dot. Throws InputError, which begins with `operation`, where it cannot
/// be read.
std::vector<std::string> list_folder(const std::filesystem::path& folder, Entries entries,
                                     std::string_view operation);

/// The first `max_bytes` of a regular file, or all of a shorter one. Throws InputError, which
/// begins with `operation`, where it cannot be read.
std::string read_file(const std::filesystem::path& path, std::uintmax_t max_bytes,
                      std::string_view operation);

}  // namespace ecoformer::data
