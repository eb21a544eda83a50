// Configurations as flat JSON objects, strictly both ways, from one list of fields a configuration:
// a callable that calls visit(key, field) for each.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "ecoformer/base/error.h"
#include "ecoformer/nn/attention_options.h"

namespace ecoformer::models {

[[noreturn]] inline void refuse(const char* key, const char* expected,
                                const nlohmann::json& found) {
  throw InputError(
      fmt::format("model config: expected {} for '{}', got {}", expected, key, found.dump()));
}

inline void read(const char* key, const nlohmann::json& found, bool& x) {
  if (!found.is_boolean()) refuse(key, "true or false", found);
  x = found.get<bool>();
}
inline void read(const char* key, const nlohmann::json& found, std::int64_t& x) {
  if (!found.is_number_integer()) refuse(key, "an integer", found);
  x = found.get<std::int64_t>();
}
inline void read(const char* key, const nlohmann::json& found, double& x) {
  if (!found.is_number()) refuse(key, "a number", found);
  x = found.get<double>();
}
inline void read(const char* key, const nlohmann::json& found, std::string& x) {
  if (!found.is_string()) refuse(key, "a string", found);
  x = found.get<std::string>();
}
inline void read(const char* key, const nlohmann::json& found, std::vector<std::int64_t>& x) {
  if (!found.is_array()) refuse(key, "a list of integers", found);
  x.clear();
  for (const nlohmann::json& entry : found) read(key, entry, x.emplace_back());
}
inline void read(const char* key, const nlohmann::json& found, nn::Projection& x) {
  std::string name;
  read(key, found, name);
  x = nn::projection_from_string(name);
}
inline void read(const char* key, const nlohmann::json& found, nn::Semantics& x) {
  std::string name;
  read(key, found, name);
  x = nn::semantics_from_string(name);
}
inline void read(const char* key, const nlohmann::json& found, nn::Bandwidth& x) {
  std::string name;
  read(key, found, name);
  x = nn::bandwidth_from_string(name);
}

/// Enumerations appear as their names.
template <typename Value>
nlohmann::json value_of(const Value& x) {
  if constexpr (std::is_enum_v<Value>) {
    return to_string(x);
  } else {
    return x;
  }
}

/// The fields of the replaceable attention, which every model has.
template <typename Config, typename Visit>
void visit_attention(Config& config, const Visit& visit) {
  visit("projection", config.projection);
  visit("attention", config.attention.mechanism);
  visit("semantics", config.attention.semantics);
  visit("bandwidth", config.attention.bandwidth);
  visit("bits", config.attention.bits);
  visit("supports", config.attention.supports);
  visit("group_bits", config.attention.group_bits);
}

template <typename Config, typename Fields>
nlohmann::json write_config(const Config& config, const Fields& fields) {
  nlohmann::json result = nlohmann::json::object();
  fields(config, [&](const char* key, const auto& field) { result[key] = value_of(field); });
  return result;
}

/// `config` with the fields that `given` has. Throws InputError for an unknown key or a wrong type.
template <typename Config, typename Fields>
Config read_config(const nlohmann::json& given, Config config, const Fields& fields) {
  if (!given.is_object()) {
    throw InputError(
        fmt::format("model config: expected a JSON object, got {}", given.type_name()));
  }
  nlohmann::json unread = given;
  fields(config, [&](const char* key, auto& field) {
    const auto found = given.find(key);
    if (found == given.end()) return;
    read(key, *found, field);
    unread.erase(key);
  });
  if (!unread.empty()) {
    throw InputError(fmt::format("model config: unknown key '{}'", unread.begin().key()));
  }
  return config;
}

inline void expect_range(const char* key, std::int64_t value, std::int64_t least,
                         std::int64_t most) {
  if (value < least || value > most) {
    throw InputError(
        fmt::format("model config: expected '{}' in [{}, {}], got {}", key, least, most, value));
  }
}

inline void expect_probability(const char* key, double value) {
  if (!(value >= 0 && value < 1)) {
    throw InputError(fmt::format("model config: expected '{}' in [0, 1), got {}", key, value));
  }
}

inline void expect_multiple(const char* what, std::int64_t width, const char* of,
                            std::int64_t heads) {
  if (width % heads != 0) {
    throw InputError(
        fmt::format("model config: expected '{}' to be a multiple of '{}', got {} and {}", what, of,
                    width, heads));
  }
}

inline void validate_attention(const nn::AttentionOptions& attention) {
  expect_range("bits", attention.bits, 1, 64);
  expect_range("supports", attention.supports, 1, 1 << 16);
  if (attention.group_bits != 4 && attention.group_bits != 8) {
    throw InputError(
        fmt::format("model config: expected 'group_bits' 4 or 8, got {}", attention.group_bits));
  }
}

}  // namespace ecoformer::models
