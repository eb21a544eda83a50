// RandAugment as timm configures it for this recipe (rand-m9-mstd0.5-inc1), with PIL's operations.
#pragma once

#include "data/random.h"
#include "ecoformer/data/image.h"

namespace ecoformer::data {

enum class Operation {
  kAutoContrast,
  kEqualize,
  kInvert,
  kRotate,
  kPosterize,
  kSolarize,
  kSolarizeAdd,
  kColor,
  kContrast,
  kBrightness,
  kSharpness,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
};
inline constexpr int kOperations = 15;

/// What `operation` takes at `level` in [0, 10], and at the opposite side with `negate`: degrees
/// counterclockwise, bits kept, threshold, amount added below 128, factor, slope, share of the
/// size. Operations without a level take 0.
double argument_of(Operation operation, double level, bool negate);

/// An RGB picture after `operation`. Equal to PIL's operation of that name; what geometry leaves
/// uncovered becomes (124, 116, 104), the mean of ImageNet, the rest is bicubic.
Image apply(Operation operation, const Image& image, double argument);

/// Twice: one of the operations, uniformly, with probability 1/2, at a level from N(9, 0.5)
/// clipped to [0, 10] and on a side chosen at random.
Image rand_augment(Image image, Engine& engine);

}  // namespace ecoformer::data
