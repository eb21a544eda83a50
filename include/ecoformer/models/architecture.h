// A model without its weights, as data; and the published ones by name.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ecoformer/nn/attention_options.h"

namespace ecoformer::models {

/// What `make_classifier` builds a model from.
struct Architecture {
  std::string type;
  nlohmann::json config;
};

/// Gives `architecture` another kind of replaceable attention: mechanism, semantics, bandwidth,
/// bits, supports, group_bits and the projection.
void set_attention(Architecture& architecture, const nn::AttentionOptions& attention,
                   nn::Projection projection);

/// The published vision model `name` with its original attention and 1000 classes. Names are
/// timm's: pvt_v2_b0 to pvt_v2_b5, pvt_v2_b2_li, twins_svt_small, _base, _large, twins_pcpvt_small,
/// _base, _large. Throws InputError for an unknown name.
Architecture named_architecture(const std::string& name);

/// The names `named_architecture` knows.
std::vector<std::string> architecture_names();

}  // namespace ecoformer::models
