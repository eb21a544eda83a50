// The layer around a mechanism: projections in, heads apart, attend, heads together, projection
// out.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <memory>

#include "ecoformer/nn/attention.h"

namespace ecoformer::nn {

/// Multi-head attention over tokens [B, N, C] with any mechanism. State names are the authors':
/// `qkv` or `to_qk` + `to_v`, `proj`, and `fast_attention.*` for a mechanism that has state.
class MultiHeadAttentionImpl : public torch::nn::Module {
 public:
  /// C = attention.heads * attention.dim. Throws InputError for an unknown mechanism.
  MultiHeadAttentionImpl(AttentionOptions attention, Projection projection);

  /// Self-attention: x [B, N, C], mask [B, N] bool (true: real) or undefined -> [B, N, C].
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask = {});

  /// Cross-attention: queries from x [B, Nq, C], keys and values from context [B, Nk, C].
  torch::Tensor attend_to(const torch::Tensor& x, const torch::Tensor& context, const Masks& masks);

  Projection projection() const { return projection_; }
  std::shared_ptr<Attention> attention;

 private:
  /// [B, N, C] -> [B, H, N, D], a view.
  torch::Tensor split_heads(const torch::Tensor& x) const;
  torch::Tensor merge_heads(const torch::Tensor& x) const;

  Projection projection_;
  torch::nn::Linear qkv_ = nullptr, to_qk_ = nullptr, to_v_ = nullptr, proj_ = nullptr;
};
TORCH_MODULE(MultiHeadAttention);

}  // namespace ecoformer::nn
