// The attention mechanisms behind one interface: given queries, keys and values of all heads,
// attend.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ecoformer/nn/attention_options.h"
#include "ecoformer/nn/hamming_attention.h"
#include "ecoformer/nn/hash_function.h"

namespace ecoformer::nn {

/// One attention mechanism over all heads. Modules that hold one never ask which it is.
class Attention : public torch::nn::Module {
 public:
  /// Called with the arguments of `forward` before it attends. Hash functions are learned, and
  /// scores are looked at, through this one door: it works in any model that holds the mechanism.
  using Observer = std::function<void(const torch::Tensor& q, const torch::Tensor& k,
                                      const torch::Tensor& v, const Masks& masks)>;

  /// q [B, H, Nq, D], k [B, H, Nk, D], v [B, H, Nk, D] -> [B, H, Nq, D]. Padded keys take no part,
  /// padded queries give zeros.
  torch::Tensor forward(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const Masks& masks = {});

  /// Sets the observer, or removes it with nullptr.
  void observe(Observer observer) { observer_ = std::move(observer); }

  const AttentionOptions& options() const { return options_; }

 protected:
  explicit Attention(AttentionOptions options) : options_(std::move(options)) {}

 private:
  virtual torch::Tensor attend(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, const Masks& masks) = 0;

  AttentionOptions options_;
  Observer observer_;
};

/// softmax(q k^T / sqrt(D)) v by LibTorch's scaled_dot_product_attention. No parameters.
class SoftmaxAttention : public Attention {
 public:
  explicit SoftmaxAttention(const AttentionOptions& options);

 private:
  torch::Tensor attend(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                       const Masks& masks) override;
};

/// EcoFormer attention: one learned hash function a head and a profile of the Hamming distance.
/// State: `ksh.*` (see HashFunctionImpl) and, with Semantics::kExponential, the parameter `beta`
/// [H].
class EcoAttention : public Attention {
 public:
  explicit EcoAttention(const AttentionOptions& options);

  HashFunction ksh = nullptr;
  torch::Tensor beta;  ///< [H], effective within [0, kMaxBeta]; undefined for other semantics

 private:
  torch::Tensor attend(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                       const Masks& masks) override;
};

/// Builds the mechanism that `options.mechanism` names. Throws InputError for an unknown name.
std::shared_ptr<Attention> make_attention(const AttentionOptions& options);

/// The names `make_attention` knows.
std::vector<std::string> attention_mechanisms();

}  // namespace ecoformer::nn
