// Opens a file for reading, or says why it cannot be read.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "ecoformer/base/error.h"

namespace ecoformer::io {

/// A binary stream at the start of the regular file `path`. Throws InputError.
inline std::ifstream open_file(const std::filesystem::path& path) {
  const auto fail = [&path](const char* expected, const std::string& got) {
    throw InputError(fmt::format("read {}: expected {}, got {}", path.string(), expected, got));
  };
  std::error_code error;
  const bool is_regular = std::filesystem::is_regular_file(path, error);
  if (error) fail("a file that can be read", "'" + error.message() + "'");
  if (!is_regular) fail("a regular file", "something else");
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    fail("a file that can be read", "'" + std::generic_category().message(errno) + "'");
  }
  return stream;
}

}  // namespace ecoformer::io
