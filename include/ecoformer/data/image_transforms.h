// From a picture to a model's input: resizing as PIL does it, the evaluation crop, normalisation.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "ecoformer/data/image.h"

namespace ecoformer::data {

/// A rectangle of pixels.
struct Box {
  std::int64_t top = 0;
  std::int64_t left = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
};

/// Sizes up to this are CIFAR's: models see the picture as it is, without resizing (the authors'
/// rule).
inline constexpr std::int64_t kCifarSize = 32;

/// How much of the picture an evaluation sees.
enum class EvaluationCrop {
  kAuthors,  ///< shorter side 256 for 224, in general int(256 / 224 size), as PVT and Twins
  kTimm,     ///< shorter side 248 for 224, in general floor(size / 0.9)
};

/// "authors" and "timm", and back; throws InputError for another name.
std::string to_string(EvaluationCrop crop);
EvaluationCrop evaluation_crop_from_string(const std::string& name);

/// The pixels of `image` inside `box`. Throws InputError where the box is empty or reaches outside.
Image crop(const Image& image, const Box& box);

/// The part inside `window` of `image` resized to [height, width] by antialiased bicubic
/// interpolation. Equal in every bit to `resize((width, height), BICUBIC)` of Pillow up to 11; 13
/// takes the vertical pass first where that is cheaper, which moves some samples by 1. Throws
/// InputError where the window is empty or reaches outside [height, width].
Image resize_bicubic(const Image& image, std::int64_t height, std::int64_t width,
                     const Box& window);

/// The same for all of it.
Image resize_bicubic(const Image& image, std::int64_t height, std::int64_t width);

/// What a model of input `size` is evaluated on, [size, size, 3]: the shorter side resized to the
/// length that `crop` names, the longer one in proportion and truncated, then the centre, its
/// offsets rounded half to even. Up to kCifarSize nothing is resized and a picture of another size
/// throws InputError.
Image evaluation_view(const Image& image, std::int64_t size,
                      EvaluationCrop crop = EvaluationCrop::kAuthors);

/// Writes an RGB picture as float32 [3, H, W]: x / 255, less ImageNet's mean (0.485, 0.456, 0.406),
/// over its standard deviation (0.229, 0.224, 0.225). Throws InputError where `output` is not of
/// 3 H W elements.
void normalize(const Image& image, std::span<float> output);

}  // namespace ecoformer::data
