// Seeded random tensors and learned hash functions that the tests of nn share.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include <cstdint>

#include "ecoformer/nn/hash_function.h"

namespace ecoformer::nn {

inline torch::Tensor normal(at::IntArrayRef shape, std::uint64_t seed) {
  return torch::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), torch::kFloat32);
}

/// A hash function with random unit supports and plausible means, as if it had been learned.
inline HashFunction random_hash(const HashOptions& options, std::uint64_t seed) {
  HashFunction hash(options, seed);
  const auto support = normal(hash->anchor.sizes(), seed + 1);
  hash->anchor.copy_(support / support.norm(2, -1, true));
  hash->mvec.fill_(0.6F);
  if (hash->sigma.defined()) hash->sigma.fill_(1.9F);
  return hash;
}

}  // namespace ecoformer::nn
