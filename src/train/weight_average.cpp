// Averages beside the parameters, by name.
#include "train/weight_average.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include "ecoformer/base/error.h"

namespace ecoformer::train {

WeightAverage::WeightAverage(const torch::nn::Module& model, double decay) : decay_(decay) {
  if (decay_ == 0) return;
  for (const auto& item : model.named_parameters()) {
    state_[item.key()] = item.value().detach().clone();
  }
}

void WeightAverage::update(const torch::nn::Module& model) {
  if (decay_ == 0) return;
  const torch::NoGradGuard no_grad;
  for (const auto& item : model.named_parameters()) {
    state_.at(item.key()).lerp_(item.value(), 1 - decay_);
  }
}

void WeightAverage::load(const std::map<std::string, at::Tensor>& state) {
  if (state.size() != state_.size()) {
    throw InputError(
        fmt::format("expected averages of {} parameters, got {}", state_.size(), state.size()));
  }
  for (auto& [name, average] : state_) {
    const auto found = state.find(name);
    if (found == state.end() || found->second.sizes() != average.sizes() ||
        found->second.dtype() != average.dtype()) {
      throw InputError(fmt::format("expected ema.{} as its parameter, got {}", name,
                                   found == state.end() ? "none" : "another shape or dtype"));
    }
    average.copy_(found->second);
  }
}

void WeightAverage::swap(const torch::nn::Module& model) {
  if (decay_ == 0) return;
  const torch::NoGradGuard no_grad;
  for (const auto& item : model.named_parameters()) {
    torch::Tensor& average = state_.at(item.key());
    const torch::Tensor weights = item.value().detach().clone();
    item.value().detach().copy_(average);
    average.copy_(weights);
  }
}

}  // namespace ecoformer::train
