// The entries of a ZIP file by name, as the writer of torch.save lays them out.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "io/bytes.h"

namespace ecoformer::io {

/// Bytes of a file.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// One entry as the central directory describes it.
struct ZipEntry {
  std::uint64_t header = 0;  ///< offset of the local header, which precedes the content
  std::uint64_t bytes = 0;   ///< of the content
  bool is_stored = false;    ///< neither compressed nor encrypted
};

/// Reads the central directory, with its ZIP64 records where they exist; sizes and places come from
/// there alone, since local headers may leave them open. Throws InputError naming the file if it
/// breaks off, contradicts itself or names an entry twice. Memory is linear in the directory.
std::map<std::string, ZipEntry> read_zip_directory(const ByteSource& source);

/// Where the content of an entry lies. Throws InputError if it is not stored as it is, or lies
/// outside the file. Checksums are not compared: some writers leave them out.
ByteRange locate(const ByteSource& source, const std::string& name, const ZipEntry& entry);

}  // namespace ecoformer::io
