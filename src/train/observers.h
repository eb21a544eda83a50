// Observers on the attention layers of a model, for a scope.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "ecoformer/nn/attention.h"

namespace ecoformer::train {

/// Removes the observers of all layers at the end of its life.
class Observers {
 public:
  explicit Observers(std::vector<std::shared_ptr<nn::Attention>> layers)
      : layers_(std::move(layers)) {}
  ~Observers() {
    for (const auto& layer : layers_) layer->observe(nullptr);
  }
  Observers(const Observers&) = delete;
  Observers& operator=(const Observers&) = delete;

  const std::vector<std::shared_ptr<nn::Attention>>& layers() const { return layers_; }

 private:
  std::vector<std::shared_ptr<nn::Attention>> layers_;
};

}  // namespace ecoformer::train
