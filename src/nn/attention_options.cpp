// Names of the options and back.

#include "ecoformer/nn/attention_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <utility>
#include <vector>

#include "ecoformer/base/error.h"

namespace ecoformer::nn {
namespace {

template <typename Enum, std::size_t Count>
using Names = std::array<std::pair<Enum, const char*>, Count>;

constexpr Names<Semantics, 3> kSemanticsNames{{{Semantics::kPaper, "paper"},
                                               {Semantics::kOfficial, "official"},
                                               {Semantics::kExponential, "exponential"}}};
constexpr Names<Bandwidth, 2> kBandwidthNames{
    {{Bandwidth::kFrozen, "frozen"}, {Bandwidth::kPerInput, "per_input"}}};
constexpr Names<Projection, 2> kProjectionNames{
    {{Projection::kUntied, "untied"}, {Projection::kTied, "tied"}}};

template <typename Enum, std::size_t Count>
std::string name_of(Enum value, const Names<Enum, Count>& names) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  throw Error("attention: expected a known enumerator, got another number");
}

template <typename Enum, std::size_t Count>
Enum value_of(const char* what, const std::string& name, const Names<Enum, Count>& names) {
  std::vector<std::string> known;
  for (const auto& [value, text] : names) {
    if (name == text) return value;
    known.emplace_back(text);
  }
  throw InputError(
      fmt::format("{}: expected one of {}, got '{}'", what, fmt::join(known, ", "), name));
}

}  // namespace

std::string to_string(Semantics semantics) {
  return name_of(semantics, kSemanticsNames);
}
std::string to_string(Bandwidth bandwidth) {
  return name_of(bandwidth, kBandwidthNames);
}
std::string to_string(Projection projection) {
  return name_of(projection, kProjectionNames);
}
Semantics semantics_from_string(const std::string& name) {
  return value_of("semantics", name, kSemanticsNames);
}
Bandwidth bandwidth_from_string(const std::string& name) {
  return value_of("bandwidth", name, kBandwidthNames);
}
Projection projection_from_string(const std::string& name) {
  return value_of("projection", name, kProjectionNames);
}

}  // namespace ecoformer::nn
