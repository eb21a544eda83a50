// Parses metadata of the Pathfinder task: text and numpy's format 1 to 3.
#include "data/pathfinder_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <utility>

#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

constexpr std::size_t kFields = 11;
constexpr std::size_t kFolder = 0;
constexpr std::size_t kFile = 1;
constexpr std::size_t kLabel = 3;
constexpr std::string_view kNumpyMagic = "\x93NUMPY";

// Messages quote what a file holds, which may be anything and of any size.
std::string quote(std::string_view text) {
  constexpr std::size_t kShown = 40;
  return fmt::format("'{}'{}", text.substr(0, kShown), text.size() > kShown ? "..." : "");
}

bool leads_out(std::string_view path) {
  if (path.empty() || path.front() == '/' || path.find('\0') != std::string_view::npos) return true;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    if (path.substr(0, end) == "..") return true;
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return false;
}

PathfinderEntry parse_entry(const std::vector<std::string>& fields) {
  if (fields.size() != kFields) {
    throw InputError(fmt::format("expected {} fields, got {}", kFields, fields.size()));
  }
  const std::string& label = fields[kLabel];
  if (label != "0" && label != "1") {
    throw InputError(fmt::format("expected a label of 0 or 1, got {}", quote(label)));
  }
  const std::string file = fields[kFolder] + "/" + fields[kFile];
  if (fields[kFile].empty() || leads_out(file)) {
    throw InputError(fmt::format("expected a file in the set's folder, got {}", quote(file)));
  }
  return {.file = file, .label = label == "1" ? 1 : 0};
}

std::vector<PathfinderEntry> parse_text(std::string_view content) {
  std::vector<PathfinderEntry> entries;
  for (std::size_t line_number = 1; !content.empty(); ++line_number) {
    const std::size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    std::vector<std::string> fields;
    while (!line.empty() && fields.size() <= kFields) {
      const std::size_t space = std::min(line.find(' '), line.size());
      if (space > 0) fields.emplace_back(line.substr(0, space));
      line.remove_prefix(std::min(space + 1, line.size()));
    }
    try {
      entries.push_back(parse_entry(fields));
    } catch (const InputError& error) {
      throw InputError(fmt::format("line {}: {}", line_number, error.what()));
    }
  }
  return entries;
}

// Numpy's header, a Python dictionary on one line, and what follows it.
struct NumpyArray {
  std::string_view header;
  std::string_view data;
};

NumpyArray split_numpy(std::string_view content) {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::size_t>(static_cast<unsigned char>(content.at(i)));
  };
  const std::size_t version_at = kNumpyMagic.size();
  const std::size_t length_at = version_at + 2;
  const bool wide = content.size() > version_at && byte(version_at) > 1;
  const std::size_t header_at = length_at + (wide ? 4 : 2);
  if (content.size() < header_at) {
    throw InputError("numpy: expected a header, got the end of the file");
  }
  std::size_t length = 0;
  for (std::size_t i = header_at; i > length_at; --i) length = length << 8 | byte(i - 1);
  if (length > content.size() - header_at) {
    throw InputError(fmt::format("numpy: expected a header of {} bytes, got {}", length,
                                 content.size() - header_at));
  }
  return {content.substr(header_at, length), content.substr(header_at + length)};
}

// What follows `key` and a colon in the header.
std::string_view value_of(std::string_view header, std::string_view key) {
  const std::size_t at = header.find(fmt::format("'{}':", key));
  if (at == std::string_view::npos) {
    throw InputError(
        fmt::format("numpy: expected the key {} in the header, got {}", key, quote(header)));
  }
  std::string_view value = header.substr(at + key.size() + 3);
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

// Takes a decimal number off the front of `text`.
std::optional<std::size_t> take_number(std::string_view& text) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::vector<PathfinderEntry> parse_numpy(std::string_view content) {
  const NumpyArray array = split_numpy(content);
  std::string_view type = value_of(array.header, "descr");
  // Python 2 wrote bytes, Python 3 writes four a character.
  const bool is_unicode = type.starts_with("'<U");
  const std::size_t character = is_unicode ? 4 : 1;
  std::optional<std::size_t> characters;
  if (take(type, "'<U") || take(type, "'|S")) characters = take_number(type);
  std::string_view shape = value_of(array.header, "shape");
  std::optional<std::size_t> rows;
  std::optional<std::size_t> columns;
  if (take(shape, "(")) rows = take_number(shape);
  if (take(shape, ", ")) columns = take_number(shape);
  if (!characters || *characters == 0 || !rows || columns != kFields ||
      !value_of(array.header, "fortran_order").starts_with("False")) {
    throw InputError(
        fmt::format("numpy: expected rows of {} strings, got {}", kFields, quote(array.header)));
  }
  // Divided, not multiplied: sizes of a hostile header may overflow.
  const std::size_t cells = array.data.size() / character / *characters;
  if (cells / kFields != *rows || array.data.size() != *rows * kFields * *characters * character) {
    throw InputError(
        fmt::format("numpy: expected {} rows of {} strings of {} characters, got {} "
                    "bytes",
                    *rows, kFields, *characters, array.data.size()));
  }
  std::vector<PathfinderEntry> entries;
  const char* at = array.data.data();
  for (std::size_t row = 0; row < *rows; ++row) {
    std::vector<std::string> fields(kFields);
    for (std::string& field : fields) {
      for (std::size_t i = 0; i < *characters; ++i, at += character) {
        // Little endian; other planes than the first byte's hold nothing that a path here has.
        const bool wide = std::any_of(at + 1, at + character, [](char c) { return c != 0; });
        field += wide ? '?' : *at;
      }
      field.erase(field.find_last_not_of('\0') + 1);
    }
    try {
      entries.push_back(parse_entry(fields));
    } catch (const InputError& error) {
      throw InputError(fmt::format("row {}: {}", row, error.what()));
    }
  }
  return entries;
}

}  // namespace

std::vector<PathfinderEntry> parse_pathfinder_metadata(std::string_view content) {
  return content.starts_with(kNumpyMagic) ? parse_numpy(content) : parse_text(content);
}

}  // namespace ecoformer::data
