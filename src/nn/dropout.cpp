// Dropout drawn from an explicit generator.

#include "ecoformer/nn/dropout.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include "ecoformer/base/error.h"

namespace ecoformer::nn {

DropoutImpl::DropoutImpl(double probability) : probability_(probability) {
  if (!(probability >= 0 && probability < 1)) {
    throw Error(fmt::format("dropout: expected a probability in [0, 1), got {}", probability));
  }
}

torch::Tensor DropoutImpl::forward(const torch::Tensor& x) {
  if (!is_training() || probability_ == 0) return x;
  if (!generator_.defined()) {
    throw Error(
        "dropout: expected a generator for training, got none\n"
        "hint: call use_generator on the model before training it");
  }
  return x * torch::empty_like(x).bernoulli_(1 - probability_, generator_).div_(1 - probability_);
}

}  // namespace ecoformer::nn
