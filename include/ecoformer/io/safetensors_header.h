// The header of a safetensors file: which tensors it holds and where. Needs no torch, so that the
// part that faces hostile bytes can be fuzzed and used alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace ecoformer::io {

/// One tensor of a file, without its data.
struct TensorInfo {
  std::string name;
  std::string dtype;  ///< as in the file: BOOL, U8, ..., F32, BF16, ...
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;  ///< of the first byte, counted from the start of the file
  std::uint64_t bytes = 0;
};

/// All that precedes the data.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< in the order of their data
  std::map<std::string, std::string> metadata;
};

/// Bytes from the start of a file of `file_bytes` bytes to its data: 8 and the header's length,
/// which the file's first bytes (`start`, at least 8 unless the file is shorter) hold. Throws
/// InputError naming `file` if the length does not fit the file or exceeds 100,000,000.
std::uint64_t safetensors_data_begin(std::span<const std::byte> start, std::uint64_t file_bytes,
                                     const std::string& file);

/// Parses and checks the header of a file of `file_bytes` bytes. `start` holds its first bytes, the
/// whole header at least. On return each shape fits its dtype and byte count, products of the
/// dimensions fit in an int64, and the tensors tile the data without hole or overlap. Throws
/// InputError naming `file` and the reason; allocates no more than a small multiple of the header.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> start,
                                           std::uint64_t file_bytes, const std::string& file);

/// The same for a whole file in a stream that can seek; reads the header alone.
SafetensorsHeader read_safetensors_header(std::istream& stream, const std::string& file);

/// The same for a file on disk.
SafetensorsHeader read_safetensors_header(const std::filesystem::path& path);

/// The tensors of a file in the order of their data, without loading them. Throws InputError.
std::vector<TensorInfo> list_safetensors(const std::filesystem::path& path);

}  // namespace ecoformer::io
