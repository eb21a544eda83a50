// Mixup and CutMix of a batch with itself in reverse order, and the targets that go with them.
#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "data/random.h"
#include "ecoformer/data/image_transforms.h"

namespace ecoformer::data {

/// How a batch is mixed: sample i keeps the share `lambda` of itself, the rest comes from sample
/// B - 1 - i.
struct Mixing {
  double lambda = 1;
  /// CutMix: the pixels that come from the other sample; empty for Mixup.
  Box box = {};
  bool cut = false;
};

/// With probability 1/2 CutMix, lambda ~ Beta(1, 1), a box of sides sqrt(1 - lambda) size around a
/// uniform centre, clipped, and lambda recomputed from its area; otherwise Mixup, lambda ~
/// Beta(0.8, 0.8).
Mixing draw_mixing(std::int64_t size, Engine& engine);

/// Mixes float32 [B, C, H, W], contiguous, in place.
void mix(torch::Tensor& inputs, const Mixing& mixing);

/// float32 [B, classes]: lambda times the smoothed target of sample i plus 1 - lambda times that of
/// sample B - 1 - i. A smoothed target is 1 - s + s / classes at the label, an element of int64
/// [B], and s / classes elsewhere.
torch::Tensor mixed_targets(const torch::Tensor& labels, std::int64_t classes, double lambda,
                            double smoothing);

}  // namespace ecoformer::data
