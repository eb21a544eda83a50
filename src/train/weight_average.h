// An exponential moving average of a model's weights.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <map>
#include <string>

namespace ecoformer::train {

/// average = decay average + (1 - decay) weights after each step, for all parameters; buffers, the
/// hash functions among them, are the model's own. Does nothing with a decay of 0.
class WeightAverage {
 public:
  /// Starts at the model's weights.
  WeightAverage(const torch::nn::Module& model, double decay);

  void update(const torch::nn::Module& model);

  /// By parameter; empty with a decay of 0.
  const std::map<std::string, at::Tensor>& state() const { return state_; }

  /// Goes on from a state. Throws InputError if it is not one of this model.
  void load(const std::map<std::string, at::Tensor>& state);

  /// Exchanges the model's weights and the average. Twice leaves every bit as it was.
  void swap(const torch::nn::Module& model);

 private:
  double decay_;
  std::map<std::string, at::Tensor> state_;
};

/// Gives a model its averaged weights for a scope.
class AveragedScope {
 public:
  AveragedScope(WeightAverage& average, const torch::nn::Module& model)
      : average_(average), model_(model) {
    average_.swap(model_);
  }
  ~AveragedScope() { average_.swap(model_); }
  AveragedScope(const AveragedScope&) = delete;
  AveragedScope& operator=(const AveragedScope&) = delete;

 private:
  WeightAverage& average_;
  const torch::nn::Module& model_;
};

}  // namespace ecoformer::train
