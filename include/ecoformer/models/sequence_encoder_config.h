// The configuration of a sequence encoder: all there is to it but weights.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "ecoformer/nn/attention_options.h"

namespace ecoformer::models {

/// Everything that fixes a SequenceEncoder's shape and behaviour; stored with its weights. The
/// defaults are the Nystromformer recipe for ListOps (209,802 parameters with softmax attention).
struct SequenceEncoderConfig {
  std::int64_t vocabulary = 32;   ///< rows of the token embedding; id 0 is padding
  std::int64_t positions = 2048;  ///< longest sequence
  std::int64_t classes = 10;
  std::int64_t width = 64;  ///< C
  std::int64_t layers = 2;
  std::int64_t heads = 2;  ///< H; C must be a multiple
  std::int64_t mlp_width = 128;
  std::int64_t head_width = 128;  ///< hidden layer of the classifier
  double dropout = 0.1;
  nn::Projection projection = nn::Projection::kUntied;
  nn::AttentionOptions attention;  ///< heads and dim are filled in from the fields above
};

/// Configuration as a flat JSON object, and back. `from_json` throws InputError for an unknown key,
/// a wrong type or a value out of range, naming the key.
nlohmann::json to_json(const SequenceEncoderConfig& config);
SequenceEncoderConfig sequence_encoder_config_from_json(const nlohmann::json& json);

/// Throws InputError naming the first field that does not fit (width not a multiple of heads, b
/// outside 1..64, w not 4 or 8, ...).
void validate(const SequenceEncoderConfig& config);

/// Elements of all parameters and buffers of the model, not counting the state of mechanisms other
/// than `eco`: what a file must hold at the least before a model is built for it.
std::int64_t state_elements(const SequenceEncoderConfig& config);

}  // namespace ecoformer::models
