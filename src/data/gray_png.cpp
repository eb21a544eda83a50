// libpng's simplified interface, which reports errors without longjmp through our frames.
#include "data/gray_png.h"

#include <fmt/format.h>
#include <png.h>

#include <memory>
#include <string>

#include "ecoformer/base/error.h"
#include "ecoformer/data/image.h"

namespace ecoformer::data {
namespace {

struct FreePng {
  void operator()(png_image* image) const { png_image_free(image); }
};

}  // namespace

Grid<std::uint8_t> decode_gray_png(std::string_view bytes) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, FreePng> guard(&image);
  const auto refuse = [](const std::string& found) {
    throw InputError(fmt::format("png: expected an 8 bit gray image, got {}", found));
  };
  if (png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()) == 0) {
    refuse(fmt::format("a file that libpng refuses: {}", image.message));
  }
  if (image.format != PNG_FORMAT_GRAY) refuse("another kind of pixels");
  if (image.width > kLongestGraySide || image.height > kLongestGraySide) {
    refuse(fmt::format("{} x {} pixels, more than {} a side", image.width, image.height,
                       kLongestGraySide));
  }
  Grid<std::uint8_t> pixels(static_cast<int>(image.height), static_cast<int>(image.width));
  if (png_image_finish_read(&image, nullptr, pixels.values.data(), 0, nullptr) == 0) {
    refuse(fmt::format("a damaged file: {}", image.message));
  }
  return pixels;
}

void write_gray_png(const std::filesystem::path& path, int width, int height,
                    const std::vector<std::uint8_t>& pixels) {
  write_png(path, {.height = height, .width = width, .channels = 1, .pixels = pixels});
}

}  // namespace ecoformer::data
