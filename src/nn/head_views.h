// What the modules need to call the kernels: one head of a [B, H, N, D] tensor as strided rows, one
// head of the hash state as a HashView, and float32 copies only where an input forces one.
#pragma once

#include <torch/types.h>

#include <cstdint>

#include "ecoformer/kernels/encode.h"
#include "ecoformer/nn/hash_function.h"

namespace ecoformer::nn {

/// float32 with contiguous channels; `x` itself where it already is.
inline torch::Tensor as_rows(const torch::Tensor& x) {
  const torch::Tensor y = x.scalar_type() == torch::kFloat32 ? x : x.to(torch::kFloat32);
  return y.dim() == 0 || y.size(-1) <= 1 || y.stride(-1) == 1 ? y : y.contiguous();
}

/// The rows of sample b, head h of a float32 [B, H, N, D] tensor.
inline kernels::ConstRows const_rows(const torch::Tensor& x, std::int64_t b, std::int64_t h) {
  return {x.const_data_ptr<float>() + b * x.stride(0) + h * x.stride(1), x.stride(2)};
}
inline kernels::Rows rows(const torch::Tensor& x, std::int64_t b, std::int64_t h) {
  return {x.data_ptr<float>() + b * x.stride(0) + h * x.stride(1), x.stride(2)};
}

/// Row b of a [B, N] mask as bytes, or null where the mask is undefined.
inline const std::uint8_t* mask_row(const torch::Tensor& mask, std::int64_t b) {
  if (!mask.defined()) return nullptr;
  return reinterpret_cast<const std::uint8_t*>(mask.const_data_ptr<bool>()) + b * mask.size(1);
}

/// Head h of contiguous hash tensors.
inline kernels::HashView hash_view(const HashState& hash, std::int64_t h, float bandwidth) {
  const auto dim = hash.support.size(3);
  const auto supports = hash.support.size(2);
  const auto bits = hash.weight.size(1);
  return {.dim = static_cast<int>(dim),
          .supports = static_cast<int>(supports),
          .bits = static_cast<int>(bits),
          .support = hash.support.const_data_ptr<float>() + h * supports * dim,
          .mean = hash.mean.const_data_ptr<float>() + h * supports,
          .weight = hash.weight.const_data_ptr<float>() + h * bits * supports,
          .bandwidth = bandwidth,
          .precision = hash.precision};
}

}  // namespace ecoformer::nn
