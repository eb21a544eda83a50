// Little-endian numbers in bytes, and bytes at any place of a file.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <istream>
#include <span>
#include <string>

namespace ecoformer::io {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

/// The number of type T at `bytes`, which holds at least sizeof(T).
template <typename T>
T load(const void* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

/// A file of known size, in memory or in a stream that can seek; refers to either.
class ByteSource {
 public:
  ByteSource(std::span<const std::byte> bytes, std::string name);
  ByteSource(std::istream& stream, std::string name);

  std::uint64_t size() const { return size_; }
  const std::string& name() const { return name_; }

  /// Copies the bytes from `offset` on to `destination`. Throws InputError if there are fewer.
  void read(std::uint64_t offset, std::span<std::byte> destination) const;

 private:
  std::string name_;
  std::uint64_t size_ = 0;
  std::function<bool(std::uint64_t, std::span<std::byte>)> copy_;
};

}  // namespace ecoformer::io
