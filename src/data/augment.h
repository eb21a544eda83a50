// The training augmentation of one picture (the recipe of PVT and EcoFormer, by timm's transforms).
#pragma once

#include <cstdint>
#include <span>

#include "data/random.h"
#include "ecoformer/data/image.h"

namespace ecoformer::data {

/// A random part of 8 to 100 % of the area and of an aspect from 3/4 to 4/3, resized to
/// [size, size]; after 10 draws that do not fit, the largest centred part of such an aspect.
Image random_resized_crop(const Image& image, std::int64_t size, Engine& engine);

/// [size, size] at a random place of the picture framed by 4 black pixels on every side. Throws
/// InputError where that is smaller than `size`.
Image random_padded_crop(const Image& image, std::int64_t size, Engine& engine);

Image flip_horizontally(Image image);

/// With probability 1/4, fills a rectangle of 2 to 33 % of the area and of an aspect from 0.3 to
/// 3.33 with N(0, 1); no rectangle if 10 draws do not fit. `pixels` is float32 [3, size, size].
void random_erasing(std::span<float> pixels, std::int64_t size, Engine& engine);

/// All of it, in the recipe's order: crop (the padded one up to kCifarSize), flip with probability
/// 1/2, RandAugment, normalisation into `output`, float32 [3, size, size], random erasing.
void augment(const Image& image, std::int64_t size, Engine& engine, std::span<float> output);

}  // namespace ecoformer::data
