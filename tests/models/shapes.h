// What recognition reads of a state: names and shapes.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "ecoformer/models/recognise.h"

namespace ecoformer::models {

inline Shapes shapes_of(const std::map<std::string, at::Tensor>& tensors) {
  Shapes shapes;
  for (const auto& [name, tensor] : tensors) shapes.emplace(name, tensor.sizes().vec());
  return shapes;
}

}  // namespace ecoformer::models
