// Image classifiers in stages, each on a map of fewer and wider tokens: what PVTv2 and Twins share.
#pragma once

#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ecoformer/models/classifier.h"
#include "ecoformer/nn/multi_head_attention.h"

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

class PatchEmbedImpl;
class PyramidBlockImpl;

/// The model of a plan; the families differ in the names of their state.
class PyramidImpl : public Classifier {
 public:
  ~PyramidImpl() override;

  /// images [B, channels, H, W] float, any H and W the stages can take -> logits [B, classes]. Maps
  /// are kept in channels-last order, so tokens and maps are views of one another. Images are never
  /// padded: throws InputError for a mask.
  torch::Tensor forward(const torch::Tensor& images, const torch::Tensor& mask) override;

  void require_takes(const InputBounds& inputs) const override;

  /// One a block of all stages but the last.
  std::vector<std::shared_ptr<nn::Attention>> attentions() const override;
  std::int64_t classes() const override { return plan_.classes; }

 protected:
  struct Stage;

  /// Builds stages without names; the derived class registers them, and then calls `initialise`.
  PyramidImpl(PyramidPlan plan, const PyramidConfig& config, std::uint64_t seed);

  /// Draws every weight from one generator, by the authors' rule: N(0, 0.02) for linear layers,
  /// N(0, 2 / fan out) for convolutions, zero biases.
  void initialise(std::uint64_t seed);

  std::vector<Stage> stages_;
  torch::nn::LayerNorm norm_ = nullptr;  ///< the last one, before the mean over tokens
  torch::nn::Linear head_ = nullptr;

 private:
  PyramidPlan plan_;
};

/// One stage's modules.
struct PyramidImpl::Stage {
  std::shared_ptr<PatchEmbedImpl> embed;
  std::vector<std::shared_ptr<PyramidBlockImpl>> blocks;
  std::shared_ptr<torch::nn::Module> position;  ///< Twins only
  torch::nn::LayerNorm norm = nullptr;          ///< PVTv2 only
};

}  // namespace ecoformer::models
