// Which kind of file it is decides who reads it.

#include "open_model.h"

#include <ATen/cpu/Utils.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "command.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/image_transforms.h"
#include "ecoformer/train/pretrained.h"
#include "progress.h"

namespace ecoformer::cli {
namespace {

/// The object of a JSON file as metadata: values that are no text as JSON.
std::map<std::string, std::string> read_architecture(const std::string& path) {
  if (path.empty()) return {};
  std::ifstream stream(path, std::ios::binary);
  const nlohmann::json json = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    throw InputError(
        fmt::format("--architecture: expected a readable file with a JSON object, got '{}'", path));
  }
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : json.items()) {
    metadata[key] = value.is_string() ? value.get<std::string>() : value.dump();
  }
  return metadata;
}

}  // namespace

void add_architecture_option(CLI::App& command, std::string& architecture) {
  command.add_option("--architecture", architecture,
                     "JSON file with the architecture of a vision model whose file does not tell "
                     "it: family, attention, embed_dims, num_heads, ...");
}

OpenedModel open_model(const std::string& path, const std::string& architecture) {
  if (!train::is_checkpoint(path)) {
    return {.model = train::load_pretrained(path, read_architecture(architecture)).model,
            .task = std::nullopt};
  }
  if (!architecture.empty()) {
    throw InputError(
        "--architecture: expected a file of others, got a checkpoint that has its own");
  }
  train::Checkpoint checkpoint = train::load_model(path);
  return {.model = std::move(checkpoint.model), .task = std::move(checkpoint.task)};
}

void add_dtype_option(CLI::App& command, std::string& dtype) {
  command
      .add_option("--dtype", dtype,
                  "Of weights and activations; codes are made as --hash-precision says")
      ->check(one_of({"float32", "bfloat16"}));
}

void set_dtype(models::Classifier& model, const std::string& dtype) {
  if (dtype == "float32") return;
  auto has = at::cpu::get_cpu_capabilities();
  if (!has["avx512_bf16"].toBool() && !has["amx_bf16"].toBool()) {
    log_line("note: this machine has no bfloat16 arithmetic; float32 is faster here");
  }
  models::set_inference_dtype(model, torch::kBFloat16);
}

data::Image view_of(const OpenedModel& opened, const data::Image& picture, std::int64_t image_size,
                    const std::string& crop) {
  constexpr std::int64_t kImageNetSize = 224;
  const train::TaskInfo task = opened.task.value_or(train::TaskInfo{.image_size = kImageNetSize});
  return data::evaluation_view(
      picture, image_size > 0 ? image_size : task.image_size,
      crop == kModelCrop ? task.crop : data::evaluation_crop_from_string(crop));
}

torch::Tensor input_of(const data::Image& view) {
  torch::Tensor input = torch::empty({1, 3, view.height, view.width});
  data::normalize(view, {input.mutable_data_ptr<float>(), static_cast<std::size_t>(input.numel())});
  return input;
}

Task load_task_for(const OpenedModel& opened, const DataOptions& options, Classes classes) {
  Task task = opened.task ? load_task_for(*opened.task, options, classes)
                          : load_task(options, InputKind::kImages);
  const std::int64_t expected = opened.model->classes();
  if (classes == Classes::kOfModel && std::ssize(task.info.class_names) != expected) {
    throw InputError(
        fmt::format("--data: expected the {} classes of the model, got {} in '{}'\nhint: `train "
                    "--from` fits a model to other classes with --reset-head",
                    expected, task.info.class_names.size(), options.source));
  }
  return task;
}

}  // namespace ecoformer::cli
