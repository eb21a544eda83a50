// Chooses the decoder by the first bytes, whatever the file is called, and writes PNG.
#include "ecoformer/data/image.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <png.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "data/codecs.h"
#include "data/files.h"
#include "ecoformer/base/atomic_file.h"
#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kJpegMagic = "\xFF\xD8\xFF"sv;
constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1A\n"sv;
// A picture of kMostPixels needs less in any sensible encoding.
constexpr std::uintmax_t kMostBytes = std::uintmax_t{1} << 29;

bool starts_with(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

}  // namespace

Image make_image(std::int64_t height, std::int64_t width, std::string_view name) {
  if (height < 1 || width < 1 || height > kMostPixels / width) {
    throw InputError(fmt::format("read image {}: expected 1 to {} pixels, got {} x {}", name,
                                 kMostPixels, width, height));
  }
  return {.height = height,
          .width = width,
          .pixels = std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3))};
}

void refuse_image(std::string_view format, std::string_view name, std::string_view reason) {
  throw InputError(
      fmt::format("read image {}: expected a whole {} file, got '{}'", name, format, reason));
}

Image decode_image(std::span<const std::byte> bytes, std::string_view name) {
  if (starts_with(bytes, kJpegMagic)) return decode_jpeg(bytes, name);
  if (starts_with(bytes, kPngMagic)) return decode_png(bytes, name);
  if (bytes.empty()) {
    throw InputError(
        fmt::format("read image {}: expected a JPEG or PNG file, got an empty one", name));
  }
  const auto first = bytes.first(std::min(bytes.size(), kPngMagic.size()));
  throw InputError(
      fmt::format("read image {}: expected a JPEG or PNG file, got one that begins with {:02x}",
                  name, fmt::join(first, " ")));
}

Image read_image(const std::filesystem::path& path) {
  const std::string bytes = read_file(path, kMostBytes, "read image");
  return decode_image(std::as_bytes(std::span(bytes)), path.string());
}

void write_png(const std::filesystem::path& path, const Image& image) {
  const bool fits = (image.channels == 1 || image.channels == 3) && image.height > 0 &&
                    image.width > 0 && image.height <= kMostPixels / image.width &&
                    std::ssize(image.pixels) == image.height * image.width * image.channels;
  if (!fits) {
    throw InputError(
        fmt::format("write {}: expected pixels [H, W, 3] or [H, W, 1], at most {}, got {} bytes "
                    "for [{}, {}, {}]",
                    path.string(), kMostPixels, image.pixels.size(), image.height, image.width,
                    image.channels));
  }
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = image.channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&png, bytes.data(), &size, /*convert_to_8bit=*/0,
                                image.pixels.data(), /*row_stride=*/0, nullptr) == 0) {
    throw Error(fmt::format("write {}: expected a PNG, got '{}'", path.string(), png.message));
  }
  write_atomically(path, std::string_view(bytes).substr(0, size));
}

}  // namespace ecoformer::data
