// The authors' attention as they wrote it, in plain LibTorch operations: what ours is measured
// against.
#pragma once

#include <torch/types.h>

#include "ecoformer/nn/hash_function.h"

namespace ecoformer::bench {

/// EcoFormer attention of tied tokens x [B, H, N, D] and values v [B, H, N, D] with dense +1 and -1
/// codes, bandwidth from the input, straight-through gradient: pvt/performer.py, lines 135 to 149,
/// and hashing/ksh.py, lines 265 to 269. Linear in N. Equal to hamming_attention with
/// Semantics::kOfficial but for the order of sums.
torch::Tensor official_operations(const torch::Tensor& x, const torch::Tensor& v,
                                  const nn::HashState& hash);

}  // namespace ecoformer::bench
