// Checkpoints: names and JSON on top of a safetensors file.
#include "ecoformer/train/checkpoint.h"

#include <string_view>
#include <type_traits>
#include <utility>

#include "ecoformer/io/safetensors.h"
#include "ecoformer/io/state.h"
#include "ecoformer/io/tensor_file.h"
#include "train/json_fields.h"

namespace ecoformer::train {
namespace {

constexpr const char* kFormat = "ecoformer-checkpoint-1";
constexpr std::string_view kFormatFamily = "ecoformer-checkpoint";  // of any version
constexpr std::string_view kOptimizerPrefix = "optimizer.";
constexpr std::string_view kAveragePrefix = "ema.";
constexpr const char* kGeneratorName = "generator.state";

template <typename Task, typename Visitor>
void visit_task(Task& task, Visitor& visit) {
  visit("class_names", task.class_names);
  visit("tokeniser", task.tokeniser);
  visit("max_length", task.max_length);
  visit.optional("image_size", task.image_size);
  std::string crop = to_string(task.crop);
  visit.optional("crop", crop);
  if constexpr (!std::is_const_v<Task>) task.crop = data::evaluation_crop_from_string(crop);
}

template <typename Value, typename Visitor>
void visit_progress(Value& progress, Visitor& visit) {
  visit("step", progress.step);
  visit("epoch", progress.epoch);
  visit("batch", progress.batch);
  visit("best_accuracy", progress.best_accuracy);
  visit("best_step", progress.best_step);
  visit("seconds", progress.seconds);
  visit("data", progress.data);
}

bool is_training_state(std::string_view name) {
  return name.starts_with(kOptimizerPrefix) || name.starts_with(kAveragePrefix) ||
         name == kGeneratorName;
}

/// Runs `read`, putting the file's name in front of what it complains about.
template <typename Read>
auto in_file(const std::filesystem::path& path, const Read& read) {
  try {
    return read();
  } catch (const InputError& error) {
    throw InputError(fmt::format("load {}: {}", path.string(), error.what()));
  }
}

nlohmann::json metadata_json(const io::TensorFile& file, const char* key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end()) {
    throw InputError(fmt::format("expected metadata '{}', got none", key));
  }
  nlohmann::json json = nlohmann::json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    throw InputError(fmt::format("expected metadata '{}' to be JSON, got broken text", key));
  }
  return json;
}

io::TensorFile read_file(const std::filesystem::path& path) {
  io::TensorFile file = io::read_safetensors(path);
  const auto format = file.metadata.find("format");
  if (format == file.metadata.end() || format->second != kFormat) {
    throw InputError(fmt::format(
        "load {}: expected a checkpoint with metadata format '{}', got {}", path.string(), kFormat,
        format == file.metadata.end() ? "a safetensors file without it"
                                      : fmt::format("'{}'", format->second)));
  }
  return file;
}

Checkpoint read_model(const std::filesystem::path& path, const io::TensorFile& file) {
  Checkpoint checkpoint = in_file(path, [&] {
    const nlohmann::json model = metadata_json(file, "model");
    std::string type;
    if (model.is_object() && model.contains("type") && model["type"].is_string()) {
      type = model["type"].get<std::string>();
    }
    if (type.empty() || !model.contains("config")) {
      throw InputError(
          fmt::format("expected a model's type and config, got {}", model.dump(-1, ' ', true)));
    }
    TaskInfo task;
    const nlohmann::json task_json = metadata_json(file, "task");
    FieldReader reader(task_json, "task", FieldReader::Missing::kRefuse);
    visit_task(task, reader);
    reader.refuse_unknown_keys();
    std::int64_t elements = 0;
    for (const auto& [name, tensor] : file.tensors) elements += tensor.numel();
    models::require_state_for(type, model["config"], static_cast<double>(elements));
    Checkpoint result{.model = models::make_classifier(type, model["config"]),
                      .task = std::move(task)};
    if (std::ssize(result.task.class_names) != result.model->classes()) {
      throw InputError(
          fmt::format("task: expected one name for each of the model's {} classes, got {}",
                      result.model->classes(), result.task.class_names.size()));
    }
    return result;
  });
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : file.tensors) {
    if (!is_training_state(name)) state.emplace(name, tensor);
  }
  io::load_state(*checkpoint.model, state, path.string());
  return checkpoint;
}

TrainingState read_training_state(const std::filesystem::path& path, const io::TensorFile& file) {
  return in_file(path, [&] {
    TrainingState training;
    training.config = train_config_from_json(metadata_json(file, "train"));
    const nlohmann::json progress = metadata_json(file, "progress");
    FieldReader reader(progress, "progress", FieldReader::Missing::kRefuse);
    visit_progress(training.progress, reader);
    reader.refuse_unknown_keys();
    for (const auto& [name, tensor] : file.tensors) {
      if (name == kGeneratorName) {
        training.generator = tensor;
      } else if (name.starts_with(kAveragePrefix)) {
        training.average.emplace(name.substr(kAveragePrefix.size()), tensor);
      } else if (is_training_state(name)) {
        training.optimizer.emplace(name.substr(kOptimizerPrefix.size()), tensor);
      }
    }
    if (!training.generator.defined()) {
      throw InputError(fmt::format("expected a tensor '{}', got none", kGeneratorName));
    }
    return training;
  });
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  io::TensorFile file{.tensors = io::state_of(*checkpoint.model), .metadata = {}};
  file.metadata["format"] = kFormat;
  file.metadata["model"] = nlohmann::json{{"type", checkpoint.model->type()},
                                          {"config", checkpoint.model->config_json()}}
                               .dump();
  FieldWriter task;
  visit_task(checkpoint.task, task);
  file.metadata["task"] = task.json().dump();
  if (checkpoint.training) {
    const TrainingState& training = *checkpoint.training;
    file.metadata["train"] = to_json(training.config).dump();
    FieldWriter progress;
    visit_progress(training.progress, progress);
    file.metadata["progress"] = progress.json().dump();
    for (const auto& [name, tensor] : training.optimizer) {
      file.tensors[std::string(kOptimizerPrefix) + name] = tensor;
    }
    for (const auto& [name, tensor] : training.average) {
      file.tensors[std::string(kAveragePrefix) + name] = tensor;
    }
    file.tensors[kGeneratorName] = training.generator;
  }
  io::write_safetensors(path, file);
}

bool is_checkpoint(const std::filesystem::path& path) {
  if (io::tensor_format(path) != io::TensorFormat::kSafetensors) return false;
  const auto& metadata = io::read_safetensors_header(path).metadata;
  const auto format = metadata.find("format");
  return format != metadata.end() && format->second.starts_with(kFormatFamily);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  const io::TensorFile file = read_file(path);
  Checkpoint checkpoint = read_model(path, file);
  if (file.metadata.contains("progress")) checkpoint.training = read_training_state(path, file);
  return checkpoint;
}

Checkpoint load_model(const std::filesystem::path& path) {
  return read_model(path, read_file(path));
}

}  // namespace ecoformer::train
