// One attention layer from C++: learn its hash functions from a batch, then attend in linear time.

#include <torch/torch.h>

#include <iostream>

#include "ecoformer/nn/hash_learner.h"
#include "ecoformer/nn/multi_head_attention.h"

int main() {
  using namespace ecoformer;
  torch::manual_seed(1);
  const torch::NoGradGuard no_grad;
  nn::MultiHeadAttention layer(nn::AttentionOptions{.mechanism = "eco", .heads = 2, .dim = 32},
                               nn::Projection::kUntied);
  const auto x = torch::randn({4, 256, 64});

  // The observer sees queries, keys and values just before the layer attends.
  auto* eco = layer->attention->as<nn::EcoAttention>();
  eco->observe([eco](const auto& q, const auto& k, const auto&, const nn::Masks& masks) {
    nn::HashLearner({}).learn(*eco->ksh, q, k, masks.queries, masks.keys);
  });
  layer->forward(x);
  eco->observe(nullptr);

  const auto y = layer->forward(x);
  std::cout << "attended to " << x.sizes() << ", got " << y.sizes() << '\n';
  return y.isfinite().all().item<bool>() ? 0 : 1;
}
