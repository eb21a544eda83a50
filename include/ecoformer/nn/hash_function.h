// Kernelised hash functions: the part of EcoFormer that turns tokens into binary codes.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <cstdint>

#include "ecoformer/kernels/encode.h"
#include "ecoformer/nn/attention_options.h"

namespace ecoformer::nn {

/// Shape and behaviour of a HashFunction.
struct HashOptions {
  std::int64_t heads = 1;      ///< H
  std::int64_t dim = 32;       ///< D, channels a head
  std::int64_t bits = 16;      ///< b, 1 to 64
  std::int64_t supports = 25;  ///< m
  Bandwidth bandwidth = Bandwidth::kFrozen;
};

/// The hash state of all heads as tensors, float32: what HammingAttention reads.
struct HashState {
  torch::Tensor support;    ///< [1, H, m, D], unit rows
  torch::Tensor mean;       ///< [1, H, 1, m], mean kernel value of each support
  torch::Tensor weight;     ///< [H, b, m]
  torch::Tensor bandwidth;  ///< [H]; undefined for Bandwidth::kPerInput
  kernels::Precision precision = kernels::Precision::kFloat32;
};

/// One hash function a head, shared by queries and keys (paper, equation 10):
///
///   k_j(x) = exp(-|x/|x| - s_j|^2 / (2 sigma))     y = A (k - mu)     bit r = [y_r > 0]
///
/// The state's names are the authors' (`anchor`, `mvec`, `A`; hashing/ksh.py), so their weights
/// load as they are; `sigma` [H] exists only with Bandwidth::kFrozen. All are buffers: the task's
/// gradient never reaches them, HashLearner sets them.
class HashFunctionImpl : public torch::nn::Module {
 public:
  /// Starts unlearned: zero supports, and weights drawn from N(0, 1) by the generator seeded
  /// `seed`. Throws Error for heads, dim, supports < 1 or bits outside 1..64.
  explicit HashFunctionImpl(const HashOptions& options, std::uint64_t seed = 0);

  /// True once supports have been set, by learning or by loading.
  bool is_learned() const;

  /// The tensors the kernels read. Throws Error if the function has not been learned.
  HashState state() const;

  /// Packed codes, int64 [B, H, N], bit r of token n in position r, of x [B, H, N, D].
  /// `mask` [B, N] bool (true: real token) only matters to Bandwidth::kPerInput.
  torch::Tensor encode(const torch::Tensor& x, const torch::Tensor& mask = {}) const;

  /// The projections y, float32 [B, H, N, b], whose signs are the codes.
  torch::Tensor project(const torch::Tensor& x, const torch::Tensor& mask = {}) const;

  /// The factors that codes are made of where no gradient is wanted; not part of the state. Throws
  /// InputError for kBfloat16 where kernels::has_bfloat16_encode() does not hold.
  void set_precision(kernels::Precision precision);

  /// Share of the bits of the codes of `x` and `mask`, as for `encode`, that kBfloat16 changes.
  /// Throws as `set_precision`.
  double share_changed_by_bfloat16(const torch::Tensor& x, const torch::Tensor& mask = {}) const;

  const HashOptions& options() const { return options_; }

  torch::Tensor A;       ///< [H, b, m]
  torch::Tensor mvec;    ///< [1, H, 1, m]
  torch::Tensor anchor;  ///< [1, H, m, D]
  torch::Tensor sigma;   ///< [H], only with Bandwidth::kFrozen

 private:
  HashOptions options_;
  kernels::Precision precision_ = kernels::Precision::kFloat32;
};
TORCH_MODULE(HashFunction);

/// Codes as +1 / -1, int8 [..., b], of packed codes int64 [...].
torch::Tensor unpack_codes(const torch::Tensor& codes, std::int64_t bits);

}  // namespace ecoformer::nn
