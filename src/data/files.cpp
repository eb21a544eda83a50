// Lists folders and reads files, with errors that name them.
#include "data/files.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <system_error>
#include <utility>

#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace fs = std::filesystem;

std::vector<std::string> list_folder(const fs::path& folder, Entries entries,
                                     std::string_view operation) {
  std::vector<std::string> names;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      std::string name = entry.path().filename().string();
      // Through links; a dangling one counts as a file, so that reading it is refused by name.
      std::error_code ignored;
      const bool is_folder = entry.is_directory(ignored);
      if (!name.starts_with('.') && is_folder == (entries == Entries::kFolders)) {
        names.push_back(std::move(name));
      }
    }
  } catch (const fs::filesystem_error& error) {
    throw InputError(fmt::format("{}: expected a readable folder, got {}: {}", operation,
                                 folder.string(), error.code().message()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_file(const fs::path& path, std::uintmax_t max_bytes, std::string_view operation) {
  std::error_code ignored;
  // Asked first, because opening a pipe would wait for its writer.
  const bool is_file = fs::is_regular_file(path, ignored);
  std::ifstream file;
  if (is_file) file.open(path, std::ios::binary);
  if (!is_file || !file) {
    throw InputError(fmt::format("{}: expected a readable file, got {}", operation, path.string()));
  }
  const auto size = std::min(max_bytes, fs::file_size(path, ignored));
  std::string bytes(ignored ? 0 : size, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (ignored || static_cast<std::uintmax_t>(file.gcount()) != size) {
    throw InputError(fmt::format("{}: expected {} bytes in {}, got {}", operation, size,
                                 path.string(), file.gcount()));
  }
  return bytes;
}

}  // namespace ecoformer::data
