// Field offsets are those of PKWARE's APPNOTE 6.3.10, sections 4.3.7 and 4.3.12 to 4.3.16.
#include "io/zip_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "io/fail.h"
#include "io/quote.h"

namespace ecoformer::io {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034B50;
constexpr std::uint32_t kDirectoryEntry = 0x02014B50;
constexpr std::uint32_t kEnd = 0x06054B50;
constexpr std::uint32_t kEnd64 = 0x06064B50;
constexpr std::uint32_t kEnd64Locator = 0x07064B50;

constexpr std::size_t kLocalHeaderBytes = 30;
constexpr std::size_t kDirectoryEntryBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kEnd64LocatorBytes = 20;
constexpr std::size_t kLongestComment = std::numeric_limits<std::uint16_t>::max();

constexpr std::uint64_t kLongestDirectory = std::uint64_t{64} << 20;

constexpr std::uint16_t kZip64Field = 1;
/// A 32-bit size or offset that stands in the ZIP64 field instead.
constexpr std::uint32_t kElsewhere = std::numeric_limits<std::uint32_t>::max();

std::vector<std::byte> read(const ByteSource& source, std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::byte> content(bytes);
  source.read(offset, content);
  return content;
}

struct Directory {
  std::uint64_t entries = 0;
  ByteRange range;
};

Directory find_directory(const ByteSource& source) {
  const std::uint64_t tail_bytes =
      std::min<std::uint64_t>(source.size(), kEndBytes + kLongestComment);
  const std::uint64_t tail_begin = source.size() - tail_bytes;
  const std::vector<std::byte> tail = read(source, tail_begin, tail_bytes);
  for (std::size_t at = tail.size() + 1 - std::min(tail.size() + 1, kEndBytes); at-- > 0;) {
    const std::byte* end = &tail[at];
    const bool is_end = load<std::uint32_t>(end) == kEnd &&
                        load<std::uint16_t>(end + 20) == tail.size() - at - kEndBytes;
    if (!is_end) continue;
    const std::uint64_t position = tail_begin + at;
    if (position >= kEnd64LocatorBytes) {
      const auto locator = read(source, position - kEnd64LocatorBytes, kEnd64LocatorBytes);
      if (load<std::uint32_t>(locator.data()) == kEnd64Locator) {
        const auto end64 = read(source, load<std::uint64_t>(locator.data() + 8), kEnd64Bytes);
        if (load<std::uint32_t>(end64.data()) != kEnd64) {
          fail(source.name(), "a ZIP64 end record where its locator points", "something else");
        }
        return {load<std::uint64_t>(end64.data() + 32),
                {load<std::uint64_t>(end64.data() + 48), load<std::uint64_t>(end64.data() + 40)}};
      }
    }
    return {load<std::uint16_t>(end + 10),
            {load<std::uint32_t>(end + 16), load<std::uint32_t>(end + 12)}};
  }
  fail(source.name(), "a ZIP file that ends in its directory", "none; the file may be cut off");
}

/// Replaces sizes and offset that the entry leaves to the ZIP64 field among its extra fields.
void apply_zip64(const ByteSource& source, std::span<const std::byte> extra, bool has_size,
                 bool has_stored_size, bool has_header, ZipEntry& entry) {
  if (has_size && has_stored_size && has_header) return;
  while (extra.size() >= 4) {
    const auto kind = load<std::uint16_t>(extra.data());
    const std::size_t bytes = load<std::uint16_t>(extra.data() + 2);
    extra = extra.subspan(4);
    if (bytes > extra.size()) break;
    if (kind == kZip64Field) {
      std::size_t at = 0;
      const auto next = [&] {
        at += sizeof(std::uint64_t);
        if (at > bytes) fail(source.name(), "a ZIP64 field with the entry's sizes", "fewer");
        return load<std::uint64_t>(extra.data() + at - sizeof(std::uint64_t));
      };
      if (!has_size) entry.bytes = next();
      if (!has_stored_size) next();
      if (!has_header) entry.header = next();
      return;
    }
    extra = extra.subspan(bytes);
  }
  fail(source.name(), "a ZIP64 field with the entry's sizes", "none");
}

}  // namespace

std::map<std::string, ZipEntry> read_zip_directory(const ByteSource& source) {
  const Directory directory = find_directory(source);
  if (directory.range.bytes > kLongestDirectory) {
    fail(source.name(), fmt::format("a ZIP directory of at most {} bytes", kLongestDirectory),
         fmt::format("{}", directory.range.bytes));
  }
  if (directory.range.bytes > source.size()) {
    fail(source.name(), fmt::format("a ZIP directory of {} bytes", directory.range.bytes),
         fmt::format("a file of {}", source.size()));
  }
  const std::vector<std::byte> content =
      read(source, directory.range.offset, directory.range.bytes);
  std::map<std::string, ZipEntry> entries;
  std::span<const std::byte> rest = content;
  while (!rest.empty()) {
    if (rest.size() < kDirectoryEntryBytes || load<std::uint32_t>(rest.data()) != kDirectoryEntry) {
      fail(source.name(), "a ZIP directory of entries", "something else");
    }
    const std::byte* fields = rest.data();
    const std::size_t name_bytes = load<std::uint16_t>(fields + 28);
    const std::size_t extra_bytes = load<std::uint16_t>(fields + 30);
    const std::size_t comment_bytes = load<std::uint16_t>(fields + 32);
    rest = rest.subspan(kDirectoryEntryBytes);
    if (name_bytes + extra_bytes + comment_bytes > rest.size()) {
      fail(source.name(), "a ZIP directory of whole entries", "a cut one");
    }
    const bool is_encrypted = (load<std::uint16_t>(fields + 8) & 1) != 0;
    const auto stored_size = load<std::uint32_t>(fields + 20);
    const auto size = load<std::uint32_t>(fields + 24);
    const auto header = load<std::uint32_t>(fields + 42);
    ZipEntry entry{.header = header,
                   .bytes = size,
                   .is_stored = load<std::uint16_t>(fields + 10) == 0 && !is_encrypted};
    apply_zip64(source, rest.subspan(name_bytes, extra_bytes), size != kElsewhere,
                stored_size != kElsewhere, header != kElsewhere, entry);
    std::string name(reinterpret_cast<const char*>(rest.data()), name_bytes);
    const auto [place, is_new] = entries.emplace(std::move(name), entry);
    if (!is_new) fail(source.name(), "each ZIP entry once", quote(place->first) + " twice");
    rest = rest.subspan(name_bytes + extra_bytes + comment_bytes);
  }
  if (entries.size() != directory.entries) {
    fail(source.name(), fmt::format("a ZIP directory of {} entries", directory.entries),
         fmt::format("{}", entries.size()));
  }
  return entries;
}

ByteRange locate(const ByteSource& source, const std::string& name, const ZipEntry& entry) {
  if (!entry.is_stored) {
    fail(source.name(), "ZIP entries stored as they are, as torch.save writes them",
         quote(name) + " compressed or encrypted");
  }
  const auto header = read(source, entry.header, kLocalHeaderBytes);
  if (load<std::uint32_t>(header.data()) != kLocalHeader) {
    fail(source.name(), "a header before ZIP entry " + quote(name), "something else");
  }
  const std::uint64_t offset = entry.header + kLocalHeaderBytes +
                               load<std::uint16_t>(header.data() + 26) +
                               load<std::uint16_t>(header.data() + 28);
  if (offset > source.size() || entry.bytes > source.size() - offset) {
    fail(source.name(), fmt::format("{} bytes of ZIP entry {}", entry.bytes, quote(name)),
         "a file that ends before");
  }
  return {offset, entry.bytes};
}

}  // namespace ecoformer::io
