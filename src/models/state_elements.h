// Elements of the state of the parts that models share: what a checkpoint must hold at the least.
#pragma once

#include <cstdint>

#include "ecoformer/nn/attention_options.h"

namespace ecoformer::models {

/// Elements of the state of an `eco` mechanism; other mechanisms have none or are not counted.
inline std::int64_t mechanism_elements(const nn::AttentionOptions& attention) {
  if (attention.mechanism != "eco") return 0;
  std::int64_t each = attention.supports * (attention.bits + 1 + attention.dim);
  if (attention.bandwidth == nn::Bandwidth::kFrozen) ++each;
  if (attention.semantics == nn::Semantics::kExponential) ++each;
  return attention.heads * each;
}

inline std::int64_t linear_elements(std::int64_t inputs, std::int64_t outputs) {
  return inputs * outputs + outputs;
}

/// Elements of a layer of `width` channels around the state of its mechanism.
inline std::int64_t projection_elements(nn::Projection projection, std::int64_t width) {
  const std::int64_t inner = projection == nn::Projection::kTied ? 2 : 3;
  return linear_elements(width, inner * width) + linear_elements(width, width);
}

}  // namespace ecoformer::models
