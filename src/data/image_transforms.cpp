// Cropping, the evaluation view and normalisation.
#include "ecoformer/data/image_transforms.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

constexpr std::array<float, 3> kMean = {0.485F, 0.456F, 0.406F};
constexpr std::array<float, 3> kDeviation = {0.229F, 0.224F, 0.225F};

// Half of `n` >= 0, rounded half to even.
std::int64_t half(std::int64_t n) {
  const std::int64_t floor = n / 2;
  return floor + (n % 2 != 0 && floor % 2 != 0 ? 1 : 0);
}

}  // namespace

std::string to_string(EvaluationCrop crop) {
  return crop == EvaluationCrop::kAuthors ? "authors" : "timm";
}

EvaluationCrop evaluation_crop_from_string(const std::string& name) {
  for (const EvaluationCrop crop : {EvaluationCrop::kAuthors, EvaluationCrop::kTimm}) {
    if (name == to_string(crop)) return crop;
  }
  throw InputError(fmt::format("evaluation crop: expected authors or timm, got '{}'", name));
}

Image crop(const Image& image, const Box& box) {
  const bool inside = box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 &&
                      box.height <= image.height - box.top && box.width <= image.width - box.left;
  if (!inside) {
    throw InputError(fmt::format("crop: expected a box inside [{}, {}], got [{}, {}] at ({}, {})",
                                 image.height, image.width, box.height, box.width, box.top,
                                 box.left));
  }
  Image result{.height = box.height, .width = box.width, .channels = image.channels};
  result.pixels.reserve(static_cast<std::size_t>(box.height * box.width * image.channels));
  for (std::int64_t y = box.top; y < box.top + box.height; ++y) {
    const auto row = image.pixels.begin() + (y * image.width + box.left) * image.channels;
    result.pixels.insert(result.pixels.end(), row, row + box.width * image.channels);
  }
  return result;
}

Image evaluation_view(const Image& image, std::int64_t size, EvaluationCrop crop) {
  if (size <= kCifarSize) {
    if (image.height != size || image.width != size) {
      throw InputError(
          fmt::format("evaluation view: expected a picture of {} x {} for that input size, which "
                      "is not resized to, got {} x {}\nhint: use an image size above {}",
                      size, size, image.width, image.height, kCifarSize));
    }
    return image;
  }
  const auto shorter = static_cast<std::int64_t>(crop == EvaluationCrop::kAuthors
                                                     ? 256.0 / 224.0 * static_cast<double>(size)
                                                     : static_cast<double>(size) / 0.9);
  const bool upright = image.height >= image.width;
  const std::int64_t longer =
      shorter * std::max(image.height, image.width) / std::min(image.height, image.width);
  const std::int64_t height = upright ? longer : shorter;
  const std::int64_t width = upright ? shorter : longer;
  return resize_bicubic(
      image, height, width,
      {.top = half(height - size), .left = half(width - size), .height = size, .width = size});
}

void normalize(const Image& image, std::span<float> output) {
  const std::int64_t area = image.height * image.width;
  if (image.channels != 3 || std::ssize(output) != 3 * area) {
    throw InputError(
        fmt::format("normalize: expected an RGB picture and an output of {} elements, "
                    "got {} channels and {} elements",
                    3 * area, image.channels, output.size()));
  }
  for (std::size_t c = 0; c < 3; ++c) {
    std::array<float, 256> values;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = (static_cast<float>(i) / 255.0F - kMean[c]) / kDeviation[c];
    }
    const std::uint8_t* sample = image.pixels.data() + c;
    float* const plane = output.data() + static_cast<std::int64_t>(c) * area;
    for (std::int64_t i = 0; i < area; ++i) plane[i] = values[sample[3 * i]];
  }
}

}  // namespace ecoformer::data
