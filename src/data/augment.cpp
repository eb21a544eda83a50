// Random crops, flip and erasing; RandAugment has its own file.
#include "data/augment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/rand_augment.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/image_transforms.h"

namespace ecoformer::data {
namespace {

constexpr int kAttempts = 10;
constexpr double kLowestAspect = 3.0 / 4;
constexpr double kHighestAspect = 4.0 / 3;
constexpr std::int64_t kFrame = 4;

// The sides of a rectangle of that area and aspect, width over height.
Box box_of(double area, double aspect) {
  return {.height = std::llround(std::sqrt(area / aspect)),
          .width = std::llround(std::sqrt(area * aspect))};
}

std::int64_t random_offset(Engine& engine, std::int64_t room) {
  return static_cast<std::int64_t>(uniform_below(engine, static_cast<std::uint64_t>(room + 1)));
}

Box random_box(const Image& image, Engine& engine) {
  const auto height = static_cast<double>(image.height);
  const auto width = static_cast<double>(image.width);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const double area = uniform(engine, 0.08, 1) * height * width;
    Box box = box_of(area, log_uniform(engine, kLowestAspect, kHighestAspect));
    if (box.height < 1 || box.width < 1 || box.height > image.height || box.width > image.width) {
      continue;
    }
    box.top = random_offset(engine, image.height - box.height);
    box.left = random_offset(engine, image.width - box.width);
    return box;
  }
  Box box{.height = image.height, .width = image.width};
  if (width < kLowestAspect * height) box.height = std::llround(width / kLowestAspect);
  if (width > kHighestAspect * height) box.width = std::llround(height * kHighestAspect);
  box.top = (image.height - box.height) / 2;
  box.left = (image.width - box.width) / 2;
  return box;
}

}  // namespace

Image random_resized_crop(const Image& image, std::int64_t size, Engine& engine) {
  return resize_bicubic(crop(image, random_box(image, engine)), size, size);
}

Image random_padded_crop(const Image& image, std::int64_t size, Engine& engine) {
  Image framed{.height = image.height + 2 * kFrame, .width = image.width + 2 * kFrame};
  if (size > framed.height || size > framed.width) {
    throw InputError(fmt::format("random crop: expected a picture of at least {} x {}, got {} x {}",
                                 size - 2 * kFrame, size - 2 * kFrame, image.width, image.height));
  }
  framed.pixels.resize(static_cast<std::size_t>(framed.height * framed.width * 3));
  for (std::int64_t y = 0; y < image.height; ++y) {
    const auto row = image.pixels.begin() + y * image.width * 3;
    std::copy(row, row + image.width * 3,
              framed.pixels.begin() + ((y + kFrame) * framed.width + kFrame) * 3);
  }
  const std::int64_t top = random_offset(engine, framed.height - size);
  const std::int64_t left = random_offset(engine, framed.width - size);
  return crop(framed, {.top = top, .left = left, .height = size, .width = size});
}

Image flip_horizontally(Image image) {
  for (std::int64_t y = 0; y < image.height; ++y) {
    std::uint8_t* left = image.pixels.data() + y * image.width * 3;
    std::uint8_t* right = left + (image.width - 1) * 3;
    for (; left < right; left += 3, right -= 3) std::swap_ranges(left, left + 3, right);
  }
  return image;
}

void random_erasing(std::span<float> pixels, std::int64_t size, Engine& engine) {
  if (uniform_unit(engine) >= 0.25) return;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const double area = uniform(engine, 0.02, 1.0 / 3) * static_cast<double>(size * size);
    // The recipe's aspect is height over width.
    const Box box = box_of(area, 1 / log_uniform(engine, 0.3, 1 / 0.3));
    if (box.height >= size || box.width >= size) continue;
    const std::int64_t top = random_offset(engine, size - box.height);
    const std::int64_t left = random_offset(engine, size - box.width);
    for (std::int64_t row = 0; row < 3 * box.height; ++row) {
      const std::int64_t plane = row / box.height;
      const std::int64_t y = top + row % box.height;
      float* const begin = pixels.data() + (plane * size + y) * size + left;
      for (std::int64_t x = 0; x < box.width; x += 2) {
        const auto [first, second] = normal_pair(engine);
        begin[x] = static_cast<float>(first);
        if (x + 1 < box.width) begin[x + 1] = static_cast<float>(second);
      }
    }
    return;
  }
}

void augment(const Image& image, std::int64_t size, Engine& engine, std::span<float> output) {
  Image view = size <= kCifarSize ? random_padded_crop(image, size, engine)
                                  : random_resized_crop(image, size, engine);
  if (uniform_unit(engine) < 0.5) view = flip_horizontally(std::move(view));
  normalize(rand_augment(std::move(view), engine), output);
  random_erasing(output, size, engine);
}

}  // namespace ecoformer::data
