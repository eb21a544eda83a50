// SequenceEncoderConfig as JSON and back, and the checks both share.

#include "ecoformer/models/sequence_encoder_config.h"

#include "models/config_fields.h"
#include "models/state_elements.h"

namespace ecoformer::models {
namespace {

constexpr auto kFields = [](auto& config, const auto& visit) {
  visit("vocabulary", config.vocabulary);
  visit("positions", config.positions);
  visit("classes", config.classes);
  visit("width", config.width);
  visit("layers", config.layers);
  visit("heads", config.heads);
  visit("mlp_width", config.mlp_width);
  visit("head_width", config.head_width);
  visit("dropout", config.dropout);
  visit_attention(config, visit);
};

}  // namespace

nlohmann::json to_json(const SequenceEncoderConfig& config) {
  return write_config(config, kFields);
}

SequenceEncoderConfig sequence_encoder_config_from_json(const nlohmann::json& given) {
  SequenceEncoderConfig config = read_config(given, SequenceEncoderConfig(), kFields);
  validate(config);
  return config;
}

void validate(const SequenceEncoderConfig& config) {
  constexpr std::int64_t kMost = 1 << 24;
  expect_range("vocabulary", config.vocabulary, 1, kMost);
  expect_range("positions", config.positions, 1, kMost);
  expect_range("classes", config.classes, 1, kMost);
  expect_range("width", config.width, 1, 1 << 16);
  expect_range("layers", config.layers, 1, 1 << 10);
  expect_range("heads", config.heads, 1, 1 << 10);
  expect_range("mlp_width", config.mlp_width, 1, 1 << 20);
  expect_range("head_width", config.head_width, 1, 1 << 20);
  expect_multiple("width", config.width, "heads", config.heads);
  expect_probability("dropout", config.dropout);
  validate_attention(config.attention);
}

std::int64_t state_elements(const SequenceEncoderConfig& config) {
  const std::int64_t width = config.width;
  nn::AttentionOptions attention = config.attention;
  attention.heads = config.heads;
  attention.dim = width / config.heads;
  const std::int64_t norm = 2 * width;
  const std::int64_t block =
      2 * norm + projection_elements(config.projection, width) + mechanism_elements(attention) +
      linear_elements(width, config.mlp_width) + linear_elements(config.mlp_width, width);
  return (config.vocabulary + config.positions) * width + config.layers * block + norm +
         linear_elements(width, config.head_width) +
         linear_elements(config.head_width, config.classes);
}

}  // namespace ecoformer::models
