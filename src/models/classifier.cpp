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

template <typename Model, auto read_config>
std::shared_ptr<Classifier> build(const nlohmann::json& config, std::uint64_t seed) {
  return std::make_shared<Model>(read_config(config), seed);
}

constexpr std::array<std::pair<const char*, Factory>, 3> kTypes{
    {{"sequence_encoder", &build<SequenceEncoderImpl, &sequence_encoder_config_from_json>},
     {"pvt_v2", &build<PvtV2Impl, &pvt_v2_config_from_json>},
     {"twins", &build<TwinsImpl, &twins_config_from_json>}}};

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
  for (const auto& [name, factory] : kTypes) {
    if (type == name) return factory(config, seed);
  }
  throw InputError(fmt::format("model: expected a type of {}, got '{}'",
                               fmt::join(classifier_types(), ", "), type));
}

std::vector<std::string> classifier_types() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : kTypes) names.emplace_back(name);
  return names;
}

}  // namespace ecoformer::models
