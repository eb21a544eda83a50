// The registry of models.

#include "ecoformer/models/classifier.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "ecoformer/base/error.h"
#include "ecoformer/models/pvt_v2.h"
#include "ecoformer/models/sequence_encoder.h"
#include "ecoformer/models/twins.h"
#include "ecoformer/nn/dropout.h"

namespace ecoformer::models {
namespace {

using Factory = std::shared_ptr<Classifier> (*)(const nlohmann::json& config, std::uint64_t seed);

/// A model's type: how it is built, and how much it holds.
struct ModelType {
  const char* name;
  Factory build;
  std::int64_t (*elements)(const nlohmann::json& config);
};

template <typename Model, auto read_config>
std::shared_ptr<Classifier> build(const nlohmann::json& config, std::uint64_t seed) {
  return std::make_shared<Model>(read_config(config), seed);
}

template <auto read_config>
std::int64_t pyramid_elements(const nlohmann::json& config) {
  return state_elements(plan(read_config(config)));
}

std::int64_t encoder_elements(const nlohmann::json& config) {
  return state_elements(sequence_encoder_config_from_json(config));
}

constexpr std::array<ModelType, 3> kTypes{
    {{"sequence_encoder", &build<SequenceEncoderImpl, &sequence_encoder_config_from_json>,
      &encoder_elements},
     {"pvt_v2", &build<PvtV2Impl, &pvt_v2_config_from_json>,
      &pyramid_elements<&pvt_v2_config_from_json>},
     {"twins", &build<TwinsImpl, &twins_config_from_json>,
      &pyramid_elements<&twins_config_from_json>}}};

const ModelType& type_of(const std::string& name) {
  for (const ModelType& type : kTypes) {
    if (name == type.name) return type;
  }
  throw InputError(fmt::format("model: expected a type of {}, got '{}'",
                               fmt::join(classifier_types(), ", "), name));
}

}  // namespace

void Classifier::use_generator(const at::Generator& generator) {
  nn::use_generator(*this, generator);
}

void set_inference_dtype(Classifier& model, torch::ScalarType dtype) {
  for (const auto& module : model.modules(/*include_self=*/false)) {
    const bool decides_codes = dynamic_cast<const nn::HashFunctionImpl*>(module.get()) != nullptr ||
                               dynamic_cast<const nn::EcoAttention*>(module.get()) != nullptr;
    if (decides_codes) continue;
    for (torch::Tensor& parameter : module->parameters(/*recurse=*/false)) {
      parameter.set_data(parameter.detach().to(dtype));
    }
  }
}

std::shared_ptr<Classifier> make_classifier(const std::string& type, const nlohmann::json& config,
                                            std::uint64_t seed) {
  return type_of(type).build(config, seed);
}

std::int64_t state_elements(const std::string& type, const nlohmann::json& config) {
  return type_of(type).elements(config);
}

void require_state_for(const std::string& type, const nlohmann::json& config, double elements) {
  const std::int64_t needed = state_elements(type, config);
  if (2 * elements < static_cast<double>(needed)) {
    throw InputError(fmt::format("model: expected {} elements, as the architecture has, got {:.0f}",
                                 needed, elements));
  }
}

std::vector<std::string> classifier_types() {
  std::vector<std::string> names;
  names.reserve(kTypes.size());
  for (const ModelType& type : kTypes) names.emplace_back(type.name);
  return names;
}

}  // namespace ecoformer::models
