// The two places bytes come from.
#include "io/bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "io/fail.h"

namespace ecoformer::io {

ByteSource::ByteSource(std::span<const std::byte> bytes, std::string name)
    : name_(std::move(name)),
      size_(bytes.size()),
      copy_([bytes](std::uint64_t offset, std::span<std::byte> destination) {
        const auto from = bytes.subspan(offset, destination.size());
        std::copy(from.begin(), from.end(), destination.begin());
        return true;
      }) {}

ByteSource::ByteSource(std::istream& stream, std::string name)
    : name_(std::move(name)),
      copy_([&stream](std::uint64_t offset, std::span<std::byte> destination) {
        stream.seekg(static_cast<std::streamoff>(offset));
        stream.read(reinterpret_cast<char*>(destination.data()),
                    static_cast<std::streamsize>(destination.size()));
        return static_cast<bool>(stream);
      }) {
  stream.seekg(0, std::ios::end);
  size_ = static_cast<std::uint64_t>(std::max<std::streamoff>(stream.tellg(), 0));
}

void ByteSource::read(std::uint64_t offset, std::span<std::byte> destination) const {
  const bool is_inside = offset <= size_ && destination.size() <= size_ - offset;
  if (!is_inside || !copy_(offset, destination)) {
    fail(name_, fmt::format("{} bytes at byte {}", destination.size(), offset),
         fmt::format("a file of {}", size_));
  }
}

}  // namespace ecoformer::io
