// SequenceEncoderConfig as JSON and back, strictly, and the checks both share.

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "ecoformer/base/error.h"
#include "ecoformer/models/sequence_encoder.h"

namespace ecoformer::models {
namespace {

using nlohmann::json;

/// Calls visit(key, field) for every field; enumerations appear as their names. One list serves
/// both directions, so they cannot drift apart.
template <typename Config, typename Visit>
void visit_fields(Config& config, const Visit& visit) {
  visit("vocabulary", config.vocabulary);
  visit("positions", config.positions);
  visit("classes", config.classes);
  visit("width", config.width);
  visit("layers", config.layers);
  visit("heads", config.heads);
  visit("mlp_width", config.mlp_width);
  visit("head_width", config.head_width);
  visit("dropout", config.dropout);
  visit("projection", config.projection);
  visit("attention", config.attention.mechanism);
  visit("semantics", config.attention.semantics);
  visit("bandwidth", config.attention.bandwidth);
  visit("bits", config.attention.bits);
  visit("supports", config.attention.supports);
  visit("group_bits", config.attention.group_bits);
}

json value_of(std::int64_t x) {
  return x;
}
json value_of(double x) {
  return x;
}
json value_of(const std::string& x) {
  return x;
}
template <typename Enum>
json value_of(Enum x) {
  return to_string(x);
}

[[noreturn]] void refuse(const char* key, const char* expected, const json& found) {
  throw InputError(
      fmt::format("model config: expected {} for '{}', got {}", expected, key, found.dump()));
}

void read(const char* key, const json& found, std::int64_t& x) {
  if (!found.is_number_integer()) refuse(key, "an integer", found);
  x = found.get<std::int64_t>();
}
void read(const char* key, const json& found, double& x) {
  if (!found.is_number()) refuse(key, "a number", found);
  x = found.get<double>();
}
void read(const char* key, const json& found, std::string& x) {
  if (!found.is_string()) refuse(key, "a string", found);
  x = found.get<std::string>();
}
void read(const char* key, const json& found, nn::Projection& x) {
  std::string name;
  read(key, found, name);
  x = nn::projection_from_string(name);
}
void read(const char* key, const json& found, nn::Semantics& x) {
  std::string name;
  read(key, found, name);
  x = nn::semantics_from_string(name);
}
void read(const char* key, const json& found, nn::Bandwidth& x) {
  std::string name;
  read(key, found, name);
  x = nn::bandwidth_from_string(name);
}

void expect_range(const char* key, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) {
    throw InputError(
        fmt::format("model config: expected '{}' in [{}, {}], got {}", key, least, most, value));
  }
}

}  // namespace

nlohmann::json to_json(const SequenceEncoderConfig& config) {
  json result = json::object();
  visit_fields(config, [&](const char* key, const auto& field) { result[key] = value_of(field); });
  return result;
}

SequenceEncoderConfig sequence_encoder_config_from_json(const nlohmann::json& given) {
  if (!given.is_object()) {
    throw InputError(
        fmt::format("model config: expected a JSON object, got {}", given.type_name()));
  }
  SequenceEncoderConfig config;
  json unread = given;
  visit_fields(config, [&](const char* key, auto& field) {
    const auto found = given.find(key);
    if (found == given.end()) return;
    read(key, *found, field);
    unread.erase(key);
  });
  if (!unread.empty()) {
    throw InputError(fmt::format("model config: unknown key '{}'", unread.begin().key()));
  }
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
  if (config.width % config.heads != 0) {
    throw InputError(
        fmt::format("model config: expected 'width' to be a multiple of 'heads', got {} and {}",
                    config.width, config.heads));
  }
  if (!(config.dropout >= 0 && config.dropout < 1)) {
    throw InputError(
        fmt::format("model config: expected 'dropout' in [0, 1), got {}", config.dropout));
  }
  expect_range("bits", config.attention.bits, 1, 64);
  expect_range("supports", config.attention.supports, 1, 1 << 16);
  if (config.attention.group_bits != 4 && config.attention.group_bits != 8) {
    throw InputError(fmt::format("model config: expected 'group_bits' 4 or 8, got {}",
                                 config.attention.group_bits));
  }
}

}  // namespace ecoformer::models
