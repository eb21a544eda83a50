// Convolutions, attention over reduced maps and windows, and the block around them.

#include "models/pyramid_layers.h"

#include <torch/torch.h>

namespace ecoformer::models {
namespace {

torch::nn::LayerNorm block_norm(std::int64_t width) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({width}).eps(kNormEps));
}

torch::nn::Conv2d depthwise_conv(std::int64_t width) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(width, width, 3).padding(1).groups(width));
}

/// GELU, in place where no gradient needs the argument; for a tensor nobody else reads.
torch::Tensor reusing_gelu(torch::Tensor x) {
  return x.requires_grad() ? torch::gelu(x) : torch::gelu_(x);
}

std::int64_t rounded_up(std::int64_t size, std::int64_t step) {
  return (size + step - 1) / step * step;
}

/// [B, N, C] -> [B windows, side^2, C], the map padded with zeros below and to the right.
torch::Tensor to_windows(const torch::Tensor& x, MapSize size, std::int64_t side) {
  const std::int64_t height = rounded_up(size.height, side);
  const std::int64_t width = rounded_up(size.width, side);
  torch::Tensor map = x.view({x.size(0), size.height, size.width, x.size(2)});
  if (height != size.height || width != size.width) {
    map = torch::constant_pad_nd(map, {0, 0, 0, width - size.width, 0, height - size.height});
  }
  return map.view({x.size(0), height / side, side, width / side, side, x.size(2)})
      .transpose(2, 3)
      .reshape({-1, side * side, x.size(2)});
}

/// The way back, without the padding.
torch::Tensor from_windows(const torch::Tensor& windows, MapSize size, std::int64_t side) {
  const std::int64_t height = rounded_up(size.height, side);
  const std::int64_t width = rounded_up(size.width, side);
  const std::int64_t channels = windows.size(2);
  const torch::Tensor map = windows.view({-1, height / side, width / side, side, side, channels})
                                .transpose(2, 3)
                                .reshape({-1, height, width, channels});
  return map.narrow(1, 0, size.height)
      .narrow(2, 0, size.width)
      .reshape({-1, size.tokens(), channels});
}

}  // namespace

torch::Tensor to_map(const torch::Tensor& tokens, MapSize size) {
  return tokens.transpose(1, 2).view({tokens.size(0), tokens.size(2), size.height, size.width});
}

torch::Tensor to_tokens(const torch::Tensor& map) {
  return map.flatten(2).transpose(1, 2);
}

PatchEmbedImpl::PatchEmbedImpl(const StagePlan& stage)
    : proj_(register_module("proj", torch::nn::Conv2d(torch::nn::Conv2dOptions(
                                                          stage.inputs, stage.width, stage.kernel)
                                                          .stride(stage.stride)
                                                          .padding(stage.padding)))),
      norm_(register_module("norm",
                            torch::nn::LayerNorm(torch::nn::LayerNormOptions({stage.width})))) {}

torch::Tensor PatchEmbedImpl::forward(const torch::Tensor& map) {
  return norm_(to_tokens(proj_(map)));
}

SubSampledAttentionImpl::SubSampledAttentionImpl(const BlockPlan& plan)
    : attention(nn::make_attention(plan.attention)), pooled_(plan.pooled) {
  const std::int64_t width = plan.attention.heads * plan.attention.dim;
  q_ = register_module("q", torch::nn::Linear(width, width));
  kv_ = register_module("kv", torch::nn::Linear(width, 2 * width));
  register_module("fast_attention", attention);
  proj_ = register_module("proj", torch::nn::Linear(width, width));
  if (pooled_ || plan.reduction > 1) {
    auto reduce = torch::nn::Conv2dOptions(width, width, plan.reduction);
    sr_ = register_module("sr", torch::nn::Conv2d(reduce.stride(plan.reduction)));
    norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({width})));
  }
}

torch::Tensor SubSampledAttentionImpl::reduced(const torch::Tensor& x, MapSize size) {
  if (sr_.is_empty()) return x;
  const torch::Tensor map = to_map(x, size);
  if (!pooled_) return norm_(to_tokens(sr_(map)));
  return reusing_gelu(
      norm_(to_tokens(sr_(torch::adaptive_avg_pool2d(map, {kPooledSide, kPooledSide})))));
}

torch::Tensor SubSampledAttentionImpl::forward(const torch::Tensor& x, MapSize size) {
  const nn::AttentionOptions& o = attention->options();
  const auto split_heads = [&](const torch::Tensor& tokens) {
    return tokens.view({tokens.size(0), tokens.size(1), o.heads, o.dim}).transpose(1, 2);
  };
  const auto kv = kv_(reduced(x, size)).chunk(2, /*dim=*/-1);
  const torch::Tensor out =
      attention->forward(split_heads(q_(x)), split_heads(kv[0]), split_heads(kv[1]));
  return proj_(out.transpose(1, 2).reshape(x.sizes()));
}

PyramidMlpImpl::PyramidMlpImpl(std::int64_t width, std::int64_t hidden, bool depthwise, bool relu)
    : relu_(relu),
      fc1_(register_module("fc1", torch::nn::Linear(width, hidden))),
      fc2_(register_module("fc2", torch::nn::Linear(hidden, width))) {
  if (!depthwise) return;
  // The authors' convolution lies one module deeper than its name needs.
  auto holder = register_module("dwconv", std::make_shared<torch::nn::Module>());
  dwconv_ = holder->register_module("dwconv", depthwise_conv(hidden));
}

torch::Tensor PyramidMlpImpl::forward(const torch::Tensor& x, MapSize size) {
  torch::Tensor hidden = fc1_(x);
  if (relu_) hidden = torch::relu_(hidden);
  if (!dwconv_.is_empty()) hidden = to_tokens(dwconv_(to_map(hidden, size)));
  return fc2_(reusing_gelu(hidden));
}

PyramidBlockImpl::PyramidBlockImpl(const PyramidPlan& model, const StagePlan& stage,
                                   const BlockPlan& plan, double drop_path)
    : window_(plan.window), drop_path_(register_module("drop_path", nn::DropPath(drop_path))) {
  norm1_ = register_module("norm1", block_norm(stage.width));
  if (plan.kind == BlockPlan::Kind::kSubSampled) {
    sub_sampled_ = register_module("attn", SubSampledAttention(plan));
  } else {
    dense_ = register_module("attn", nn::MultiHeadAttention(plan.attention, plan.projection));
  }
  norm2_ = register_module("norm2", block_norm(stage.width));
  mlp_ = register_module(
      "mlp", PyramidMlp(stage.width, stage.mlp_width, model.depthwise_mlp, model.relu_mlp));
}

torch::Tensor PyramidBlockImpl::forward(torch::Tensor x, MapSize size) {
  // Each branch ends in a linear layer of its own, whose output takes the sum.
  x = drop_path_(attend(norm1_(x), size)).add_(x);
  return drop_path_(mlp_(norm2_(x), size)).add_(x);
}

torch::Tensor PyramidBlockImpl::attend(const torch::Tensor& x, MapSize size) {
  if (!sub_sampled_.is_empty()) return sub_sampled_(x, size);
  if (window_ == 0) return dense_(x);
  return from_windows(dense_(to_windows(x, size, window_)), size, window_);
}

std::shared_ptr<nn::Attention> PyramidBlockImpl::attention() const {
  return sub_sampled_.is_empty() ? dense_->attention : sub_sampled_->attention;
}

PositionConvImpl::PositionConvImpl(std::int64_t width) : conv_(depthwise_conv(width)) {
  register_module("proj", torch::nn::Sequential(conv_));
}

torch::Tensor PositionConvImpl::forward(const torch::Tensor& x, MapSize size) {
  return to_tokens(conv_(to_map(x, size))).add_(x);
}

}  // namespace ecoformer::models
