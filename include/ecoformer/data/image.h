// Pictures as plain bytes: decoding of JPEG and PNG, and writing of PNG.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace ecoformer::data {

/// Larger pictures are refused, which bounds the memory that a small hostile file can ask for.
inline constexpr std::int64_t kMostPixels = std::int64_t{1} << 27;

/// Samples of 8 bits, rows from the top, channels side by side.
struct Image {
  std::int64_t height = 0;
  std::int64_t width = 0;
  /// 3 for red, green, blue; 1 for gray.
  std::int64_t channels = 3;
  std::vector<std::uint8_t> pixels = {};  ///< [height, width, channels]
};

/// The RGB picture in `bytes`, a JPEG or PNG as its first bytes tell; `name` stands for it in
/// messages. Follows PIL's `convert("RGB")`: gray is repeated, alpha dropped, CMYK taken as
/// inverted (Adobe's convention), EXIF orientation ignored. Samples of 16 bits keep their upper
/// byte (PIL clips gray ones at 255 instead). Throws InputError for another format, a truncated or
/// corrupt file, and more than kMostPixels.
Image decode_image(std::span<const std::byte> bytes, std::string_view name);

/// Reads and decodes a file; throws as decode_image does, and for one that cannot be read.
Image read_image(const std::filesystem::path& path);

/// Writes an RGB or gray picture as PNG; the file appears whole or not at all. Throws InputError
/// for a picture without pixels or whose sizes disagree, and Error where the file cannot be
/// written.
void write_png(const std::filesystem::path& path, const Image& image);

}  // namespace ecoformer::data
