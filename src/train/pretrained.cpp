// Files of others: names translated, the model recognised, built and filled.
#include "ecoformer/train/pretrained.h"

#include <fmt/format.h>
#include <torch/torch.h>

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

}  // namespace ecoformer::train
