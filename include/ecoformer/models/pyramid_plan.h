// What PVTv2 and Twins share before any weights: configuration, and the plan of all layers.
#pragma once

#include <cstdint>
#include <vector>

#include "ecoformer/nn/attention_options.h"

namespace ecoformer::models {

/// The attention mechanism that stands for the architecture's own: spatial reduction in PVTv2 and
/// PCPVT, windows and sub-sampling in turn in SVT.
inline constexpr const char* kOriginalAttention = "original";

/// The fields of every pyramid's configuration. The lists have one entry a stage.
struct PyramidConfig {
  std::int64_t channels = 3;  ///< of the image
  std::int64_t classes = 1000;
  std::vector<std::int64_t> widths;      ///< C; a multiple of the stage's heads
  std::vector<std::int64_t> depths;      ///< blocks
  std::vector<std::int64_t> heads;       ///< H
  std::vector<std::int64_t> mlp_ratios;  ///< hidden channels of a block's MLP over C
  std::vector<std::int64_t> sr_ratios;   ///< side of the patch of keys merged by sub-sampling
  double drop_path = 0;                  ///< of the last block; rises from 0 at the first
  /// Of the blocks that a mechanism other than `original` replaces.
  nn::Projection projection = nn::Projection::kUntied;
  /// `original`, or the mechanism of all stages but the last, which then is softmax attention.
  /// heads, dim and seed are filled in.
  nn::AttentionOptions attention{.mechanism = kOriginalAttention};
};

/// Throws InputError naming the first field that does not fit.
void validate(const PyramidConfig& config);

/// Height and width of an image or a map, in pixels or tokens.
struct MapSize {
  std::int64_t height = 0;
  std::int64_t width = 0;

  std::int64_t tokens() const { return height * width; }
};

/// Side of the map that PVTv2-Li pools keys to.
inline constexpr std::int64_t kPooledSide = 7;

/// How one block attends.
struct BlockPlan {
  enum class Kind {
    kDense,       ///< MultiHeadAttention over all tokens
    kWindow,      ///< the same in windows of `window` x `window` tokens
    kSubSampled,  ///< all tokens to a reduced map
  };
  Kind kind = Kind::kDense;
  nn::AttentionOptions attention;
  nn::Projection projection = nn::Projection::kUntied;
  std::int64_t window = 0;
  std::int64_t reduction = 1;  ///< kSubSampled: kernel and stride of the reducing convolution
  bool pooled = false;         ///< kSubSampled: average pooling to 7 x 7 before it, GELU after it
};

/// One stage: a convolution that makes tokens, then blocks.
struct StagePlan {
  std::int64_t inputs = 0;
  std::int64_t width = 0;
  std::int64_t kernel = 0, stride = 0, padding = 0;
  std::int64_t mlp_width = 0;
  std::vector<BlockPlan> blocks{};
};

/// A pyramid layer by layer: what the model is built from and the energy counted from.
struct PyramidPlan {
  std::vector<StagePlan> stages{};
  std::int64_t classes = 0;
  bool stage_norms = false;    ///< a LayerNorm after every stage instead of one at the end
  bool depthwise_mlp = false;  ///< a 3 x 3 depth-wise convolution in every MLP (PVTv2)
  bool relu_mlp = false;       ///< ReLU before it (PVTv2-Li)
  bool position_conv = false;  ///< a 3 x 3 depth-wise convolution after each first block (Twins)
};

/// The token maps of the stages for an image. Throws InputError if the image is too small for one.
std::vector<MapSize> stage_maps(const PyramidPlan& plan, MapSize image);

/// Elements of all parameters and buffers of the model, not counting the state of mechanisms other
/// than `eco`: what a file must hold at the least before a model is built for it.
std::int64_t state_elements(const PyramidPlan& plan);

}  // namespace ecoformer::models
