// Projections around a mechanism.

#include "ecoformer/nn/multi_head_attention.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include "ecoformer/base/error.h"

namespace ecoformer::nn {

MultiHeadAttentionImpl::MultiHeadAttentionImpl(AttentionOptions options, Projection projection)
    : attention(make_attention(options)), projection_(projection) {
  const auto width = options.heads * options.dim;
  if (projection == Projection::kTied) {
    to_qk_ = register_module("to_qk", torch::nn::Linear(width, width));
    to_v_ = register_module("to_v", torch::nn::Linear(width, width));
  } else {
    qkv_ = register_module("qkv", torch::nn::Linear(width, 3 * width));
  }
  register_module("fast_attention", attention);
  proj_ = register_module("proj", torch::nn::Linear(width, width));
}

torch::Tensor MultiHeadAttentionImpl::forward(const torch::Tensor& x, const torch::Tensor& mask) {
  const Masks masks{.keys = mask, .queries = mask};
  if (projection_ == Projection::kTied) {
    const torch::Tensor qk = split_heads(to_qk_(x));
    return proj_(merge_heads(attention->forward(qk, qk, split_heads(to_v_(x)), masks)));
  }
  const auto qkv = qkv_(x).chunk(3, /*dim=*/-1);
  return proj_(merge_heads(
      attention->forward(split_heads(qkv[0]), split_heads(qkv[1]), split_heads(qkv[2]), masks)));
}

torch::Tensor MultiHeadAttentionImpl::attend_to(const torch::Tensor& x,
                                                const torch::Tensor& context, const Masks& masks) {
  torch::Tensor q;
  torch::Tensor k;
  torch::Tensor v;
  if (projection_ == Projection::kTied) {
    q = to_qk_(x);
    k = to_qk_(context);
    v = to_v_(context);
  } else {
    const auto width = x.size(-1);
    q = torch::linear(x, qkv_->weight.narrow(0, 0, width), qkv_->bias.narrow(0, 0, width));
    const auto kv = torch::linear(context, qkv_->weight.narrow(0, width, 2 * width),
                                  qkv_->bias.narrow(0, width, 2 * width))
                        .chunk(2, /*dim=*/-1);
    k = kv[0];
    v = kv[1];
  }
  return proj_(
      merge_heads(attention->forward(split_heads(q), split_heads(k), split_heads(v), masks)));
}

torch::Tensor MultiHeadAttentionImpl::split_heads(const torch::Tensor& x) const {
  const AttentionOptions& o = attention->options();
  return x.view({x.size(0), x.size(1), o.heads, o.dim}).transpose(1, 2);
}

torch::Tensor MultiHeadAttentionImpl::merge_heads(const torch::Tensor& x) const {
  return x.transpose(1, 2).reshape({x.size(0), x.size(2), x.size(1) * x.size(3)});
}

}  // namespace ecoformer::nn
