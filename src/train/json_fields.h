// Plain structs to flat JSON objects and back, strictly: one list of fields serves both ways.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ecoformer/base/error.h"

namespace ecoformer::train {

/// Visits fields and collects them in a JSON object.
class FieldWriter {
 public:
  template <typename T>
  void operator()(const char* name, const T& field) {
    json_[name] = field;
  }
  template <typename T>
  void optional(const char* name, const T& field) {
    json_[name] = field;
  }
  nlohmann::json json() { return std::move(json_); }

 private:
  nlohmann::json json_ = nlohmann::json::object();
};

/// Visits fields and sets them from a JSON object. Every fault is an InputError that begins with
/// `context` and names the key.
class FieldReader {
 public:
  enum class Missing { kKeepDefault, kRefuse };

  FieldReader(const nlohmann::json& json, std::string_view context, Missing missing)
      : json_(json), context_(context), missing_(missing) {
    if (!json.is_object()) {
      throw InputError(
          fmt::format("{}: expected a JSON object, got {}", context_, json.type_name()));
    }
  }

  template <typename T>
  void operator()(const char* name, T& field) {
    visit(name, field, missing_);
  }

  /// A field that files of earlier versions do not have.
  template <typename T>
  void optional(const char* name, T& field) {
    visit(name, field, Missing::kKeepDefault);
  }

  /// To be called after the last field.
  void refuse_unknown_keys() const {
    for (const auto& item : json_.items()) {
      if (known_.find(item.key()) == known_.end()) {
        throw InputError(fmt::format("{}: expected known keys, got '{}'", context_, item.key()));
      }
    }
  }

 private:
  template <typename T>
  void visit(const char* name, T& field, Missing missing) {
    known_.insert(name);
    const auto found = json_.find(name);
    if (found != json_.end()) {
      read(name, *found, field);
    } else if (missing == Missing::kRefuse) {
      throw InputError(fmt::format("{}: expected a key '{}', got none", context_, name));
    }
  }

  void read(const char* name, const nlohmann::json& value, bool& field) const {
    if (!value.is_boolean()) refuse(name, "true or false", value);
    field = value.get<bool>();
  }
  void read(const char* name, const nlohmann::json& value, std::int64_t& field) const {
    // An unsigned number beyond int64 would wrap.
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX);
    if (!fits) refuse(name, "an integer", value);
    field = value.get<std::int64_t>();
  }
  void read(const char* name, const nlohmann::json& value, std::uint64_t& field) const {
    if (!value.is_number_unsigned()) refuse(name, "an integer >= 0", value);
    field = value.get<std::uint64_t>();
  }
  void read(const char* name, const nlohmann::json& value, double& field) const {
    if (!value.is_number()) refuse(name, "a number", value);
    field = value.get<double>();
  }
  void read(const char* name, const nlohmann::json& value, std::string& field) const {
    if (!value.is_string()) refuse(name, "a string", value);
    field = value.get<std::string>();
  }
  void read(const char* name, const nlohmann::json& value, std::vector<std::string>& field) const {
    bool fits = value.is_array();
    for (const auto& item : value) fits = fits && item.is_string();
    if (!fits) refuse(name, "an array of strings", value);
    field = value.get<std::vector<std::string>>();
  }

  [[noreturn]] void refuse(const char* name, std::string_view expected,
                           const nlohmann::json& value) const {
    throw InputError(fmt::format(
        "{}: expected '{}' to be {}, got {}", context_, name, expected,
        value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace)));
  }

  const nlohmann::json& json_;
  std::string context_;
  Missing missing_;
  std::set<std::string> known_;
};

}  // namespace ecoformer::train
