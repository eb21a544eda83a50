// Image classifiers in stages, each on a map of fewer and wider tokens: what PVTv2 and Twins share.
#pragma once

#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "ecoformer/models/classifier.h"
#include "ecoformer/models/pyramid_plan.h"

namespace ecoformer::models {

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
