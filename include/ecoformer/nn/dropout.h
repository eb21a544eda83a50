// Dropout from an explicit generator, so that a run is reproducible and can be resumed bit for bit.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace ecoformer::nn {

/// Zeroes each element with `probability` and scales the rest by 1 / (1 - probability) while
/// training; the identity otherwise. A call takes one 64-bit seed from its generator, whatever the
/// size, and keeps no mask: the backward pass draws it again. Throws Error outside [0, 1).
class DropoutImpl : public torch::nn::Module {
 public:
  explicit DropoutImpl(double probability);
  /// Throws Error if it is to drop something and no generator has been set.
  torch::Tensor forward(const torch::Tensor& x);
  /// Draws from `generator` from now on; one generator may serve a whole model.
  void use_generator(at::Generator generator) { generator_ = std::move(generator); }

 private:
  double probability_;
  at::Generator generator_;
};
TORCH_MODULE(Dropout);

/// Zeroes whole samples x[b] with `probability` and scales the rest by 1 / (1 - probability) while
/// training; the identity otherwise (stochastic depth, Huang et al. 2016). For the branch of a
/// residual layer. Throws Error outside [0, 1).
class DropPathImpl : public torch::nn::Module {
 public:
  explicit DropPathImpl(double probability);
  /// Throws Error if it is to drop something and no generator has been set.
  torch::Tensor forward(const torch::Tensor& x);
  /// Draws from `generator` from now on; one generator may serve a whole model.
  void use_generator(at::Generator generator) { generator_ = std::move(generator); }

 private:
  double probability_;
  at::Generator generator_;
};
TORCH_MODULE(DropPath);

/// Every Dropout and DropPath within `model` draws from `generator` from now on.
void use_generator(torch::nn::Module& model, const at::Generator& generator);

}  // namespace ecoformer::nn
