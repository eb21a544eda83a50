// The layers of a pyramid. Tokens [B, N, C] of a map of height x width go row by row; as a map
// [B, C, H, W] they are a view in channels-last order.
#pragma once

#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <memory>

#include "ecoformer/models/pyramid.h"
#include "ecoformer/nn/dropout.h"
#include "ecoformer/nn/multi_head_attention.h"

namespace ecoformer::models {

/// Epsilon of the blocks' and stages' LayerNorms; those beside convolutions have LibTorch's 1e-5.
inline constexpr double kNormEps = 1e-6;

/// [B, N, C] -> [B, C, H, W] and back, views both.
torch::Tensor to_map(const torch::Tensor& tokens, MapSize size);
torch::Tensor to_tokens(const torch::Tensor& map);

/// A convolution that makes tokens of a map, and a LayerNorm. State: proj, norm.
class PatchEmbedImpl : public torch::nn::Module {
 public:
  explicit PatchEmbedImpl(const StagePlan& stage);
  /// [B, inputs, H, W] -> [B, N, C].
  torch::Tensor forward(const torch::Tensor& map);

 private:
  torch::nn::Conv2d proj_;
  torch::nn::LayerNorm norm_;
};
TORCH_MODULE(PatchEmbed);

/// Attention of all tokens to a reduced map: PVT's spatial reduction, Twins' sub-sampling. State:
/// q, kv (rows of keys, then of values), sr and norm where something is reduced, proj.
class SubSampledAttentionImpl : public torch::nn::Module {
 public:
  explicit SubSampledAttentionImpl(const BlockPlan& plan);
  torch::Tensor forward(const torch::Tensor& x, MapSize size);

  std::shared_ptr<nn::Attention> attention;

 private:
  /// The tokens that give keys and values.
  torch::Tensor reduced(const torch::Tensor& x, MapSize size);

  bool pooled_;
  torch::nn::Linear q_ = nullptr, kv_ = nullptr, proj_ = nullptr;
  torch::nn::Conv2d sr_ = nullptr;
  torch::nn::LayerNorm norm_ = nullptr;
};
TORCH_MODULE(SubSampledAttention);

/// Linear, GELU, linear, in PVTv2 with a depth-wise convolution before the GELU. State: fc1,
/// dwconv.dwconv, fc2.
class PyramidMlpImpl : public torch::nn::Module {
 public:
  PyramidMlpImpl(std::int64_t width, std::int64_t hidden, bool depthwise, bool relu);
  torch::Tensor forward(const torch::Tensor& x, MapSize size);

 private:
  bool relu_;
  torch::nn::Linear fc1_, fc2_;
  torch::nn::Conv2d dwconv_ = nullptr;
};
TORCH_MODULE(PyramidMlp);

/// x = x + attn(norm1(x)); x = x + mlp(norm2(x)), each branch with drop path. State: norm1, attn,
/// norm2, mlp.
class PyramidBlockImpl : public torch::nn::Module {
 public:
  PyramidBlockImpl(const PyramidPlan& model, const StagePlan& stage, const BlockPlan& plan,
                   double drop_path);
  torch::Tensor forward(torch::Tensor x, MapSize size);
  std::shared_ptr<nn::Attention> attention() const;

 private:
  torch::Tensor attend(const torch::Tensor& x, MapSize size);

  std::int64_t window_;
  torch::nn::LayerNorm norm1_ = nullptr, norm2_ = nullptr;
  nn::MultiHeadAttention dense_ = nullptr;  ///< this or `sub_sampled_` is `attn`
  SubSampledAttention sub_sampled_ = nullptr;
  PyramidMlp mlp_ = nullptr;
  nn::DropPath drop_path_;
};
TORCH_MODULE(PyramidBlock);

/// x + a depth-wise convolution of x, which tells tokens where they are (Chu et al., 2023). State:
/// proj.0.
class PositionConvImpl : public torch::nn::Module {
 public:
  explicit PositionConvImpl(std::int64_t width);
  torch::Tensor forward(const torch::Tensor& x, MapSize size);

 private:
  torch::nn::Conv2d conv_;
};
TORCH_MODULE(PositionConv);

}  // namespace ecoformer::models
