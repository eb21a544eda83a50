// The mechanisms and the registry that builds them by name.

#include "ecoformer/nn/attention.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <array>
#include <utility>

#include "ecoformer/base/error.h"

namespace ecoformer::nn {
namespace {

using Factory = std::shared_ptr<Attention> (*)(const AttentionOptions&);

template <typename Mechanism>
std::shared_ptr<Attention> build(const AttentionOptions& options) {
  return std::make_shared<Mechanism>(options);
}

constexpr std::array<std::pair<const char*, Factory>, 2> kMechanisms{
    {{"softmax", &build<SoftmaxAttention>}, {"eco", &build<EcoAttention>}}};

}  // namespace

torch::Tensor Attention::forward(const torch::Tensor& q, const torch::Tensor& k,
                                 const torch::Tensor& v, const Masks& masks) {
  if (observer_) observer_(q, k, v, masks);
  return attend(q, k, v, masks);
}

SoftmaxAttention::SoftmaxAttention(const AttentionOptions& options) : Attention(options) {}

torch::Tensor SoftmaxAttention::attend(const torch::Tensor& q, const torch::Tensor& k,
                                       const torch::Tensor& v, const Masks& masks) {
  if (!masks.keys.defined() && !masks.queries.defined()) {
    return at::scaled_dot_product_attention(q, k, v);
  }
  c10::optional<torch::Tensor> key_mask;
  torch::Tensor answered;  // [B, Nq]: real queries that have a real key to attend to
  if (masks.keys.defined()) {
    // A row without any real key would be 0/0; it attends to everything and is zeroed below.
    const torch::Tensor has_key = masks.keys.any(1, /*keepdim=*/true);
    const torch::Tensor keys = masks.keys.logical_or(has_key.logical_not());
    key_mask = keys.unsqueeze(1).unsqueeze(1);  // one row for all queries: never [Nq, Nk]
    answered = has_key;
  }
  if (masks.queries.defined()) {
    answered = answered.defined() ? answered.logical_and(masks.queries) : masks.queries;
  }
  const torch::Tensor out = at::scaled_dot_product_attention(q, k, v, key_mask);
  return out.masked_fill(answered.logical_not().unsqueeze(1).unsqueeze(-1), 0);
}

EcoAttention::EcoAttention(const AttentionOptions& options) : Attention(options) {
  if (options.group_bits != 4 && options.group_bits != 8) {
    throw Error(
        fmt::format("eco attention: expected group_bits 4 or 8, got {}", options.group_bits));
  }
  ksh = register_module("ksh", HashFunction(HashOptions{.heads = options.heads,
                                                        .dim = options.dim,
                                                        .bits = options.bits,
                                                        .supports = options.supports,
                                                        .bandwidth = options.bandwidth},
                                            options.seed));
  if (options.semantics == Semantics::kExponential) {
    beta = register_parameter("beta", torch::full({options.heads}, 0.5));
  }
}

torch::Tensor EcoAttention::attend(const torch::Tensor& q, const torch::Tensor& k,
                                   const torch::Tensor& v, const Masks& masks) {
  const AttentionOptions& o = options();
  return hamming_attention(q, k, v, ksh->state(), o.semantics, o.group_bits, beta, masks);
}

std::shared_ptr<Attention> make_attention(const AttentionOptions& options) {
  for (const auto& [name, factory] : kMechanisms) {
    if (options.mechanism == name) return factory(options);
  }
  throw InputError(fmt::format("attention: expected one of {}, got '{}'",
                               fmt::join(attention_mechanisms(), ", "), options.mechanism));
}

std::vector<std::string> attention_mechanisms() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : kMechanisms) names.emplace_back(name);
  return names;
}

}  // namespace ecoformer::nn
