// Files of others: names translated, the model recognised, built and filled.
#include "ecoformer/train/pretrained.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "ecoformer/base/error.h"
#include "ecoformer/io/key_map.h"
#include "ecoformer/io/state.h"
#include "ecoformer/io/tensor_file.h"
#include "ecoformer/models/state_names.h"

namespace ecoformer::train {
namespace {

/// The entries of a state under the authors' names, without those that no model reads.
template <typename T>
std::map<std::string, T> under_official_names(const std::map<std::string, T>& state) {
  auto named = io::rename_keys(
      state, [](const std::string& name) { return std::string(io::without_module_prefix(name)); });
  if (io::has_timm_pvt_names(named)) named = io::rename_keys(named, io::official_pvt_name);
  std::erase_if(named, [](const auto& entry) { return models::is_unused_state(entry.first); });
  return named;
}

}  // namespace

models::Shapes state_shapes(const std::map<std::string, std::vector<std::int64_t>>& shapes) {
  return under_official_names(shapes);
}

Pretrained load_pretrained(const std::filesystem::path& path,
                           std::map<std::string, std::string> architecture) {
  const io::TensorFile file = io::read_tensor_file(path);
  try {
    const std::map<std::string, at::Tensor> state = under_official_names(file.tensors);
    models::Shapes shapes;
    for (const auto& [name, tensor] : state) shapes[name] = tensor.sizes().vec();
    architecture.insert(file.metadata.begin(), file.metadata.end());
    const models::Recognised found = models::recognise(shapes, architecture);
    Pretrained result{
        .model = models::make_classifier(found.architecture.type, found.architecture.config),
        .variant = found.variant};
    io::load_state(*result.model, state, path.string());
    return result;
  } catch (const InputError& error) {
    const std::string text = error.what();
    if (text.find(path.string()) != std::string::npos) throw;
    throw InputError(fmt::format("load checkpoint {}: {}", path.string(), text));
  }
}

std::shared_ptr<models::Classifier> with_config(const models::Classifier& model,
                                                const nlohmann::json& changes) {
  nlohmann::json config = model.config_json();
  config.update(changes);
  auto changed = models::make_classifier(model.type(), config);
  io::load_state(*changed, io::state_of(model), model.type());
  return changed;
}

std::shared_ptr<models::Classifier> with_new_head(const models::Classifier& model,
                                                  std::int64_t classes, std::uint64_t seed) {
  nlohmann::json config = model.config_json();
  config["classes"] = classes;
  auto changed = models::make_classifier(model.type(), config, seed);
  std::map<std::string, at::Tensor> state = io::state_of(model);
  for (const auto& [name, tensor] : io::state_of(*changed)) {
    if (name.starts_with("head.")) state[name] = tensor.clone();
  }
  io::load_state(*changed, state, model.type());
  return changed;
}

}  // namespace ecoformer::train
