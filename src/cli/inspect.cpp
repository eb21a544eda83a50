// `inspect`: what is in a file of tensors and, if it is one of ours, in a checkpoint.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <memory>
#include <string>

#include "command.h"
#include "data_options.h"
#include "ecoformer/base/error.h"
#include "ecoformer/io/pth_index.h"
#include "ecoformer/io/safetensors_header.h"
#include "ecoformer/io/tensor_file.h"
#include "ecoformer/train/checkpoint.h"
#include "ecoformer/train/pretrained.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::string file;
  Format format = Format::kTable;
};

void add_row(Report& report, const std::string& kind, const std::string& name,
             const std::string& value) {
  report.add({{"kind", kind}, {"name", name}, {"dtype", ""}, {"shape", ""}, {"value", value}});
}

/// A value of a configuration, text without its quotes.
std::string text_of(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// Adds what a checkpoint means beyond its tensors.
void add_checkpoint(Report& report, const train::Checkpoint& checkpoint) {
  const auto add = [&report](const std::string& name, const std::string& value) {
    add_row(report, "checkpoint", name, value);
  };
  add("model.type", checkpoint.model->type());
  const nlohmann::json config = checkpoint.model->config_json();
  for (const auto& [key, value] : config.items()) {
    add("model." + key, text_of(value));
  }
  std::int64_t parameters = 0;
  for (const auto& parameter : checkpoint.model->parameters()) parameters += parameter.numel();
  add("parameters", std::to_string(parameters));
  std::size_t layer = 0;
  for (const auto& attention : checkpoint.model->attentions()) {
    if (const auto* eco = dynamic_cast<const nn::EcoAttention*>(attention.get())) {
      add(fmt::format("hash.{}", layer), eco->ksh->is_learned() ? "learned" : "not learned");
    }
    ++layer;
  }
  add("task.tokeniser", checkpoint.task.tokeniser);
  if (kind_of(checkpoint.task) == InputKind::kImages) {
    add("task.image_size", std::to_string(checkpoint.task.image_size));
    add("task.crop", to_string(checkpoint.task.crop));
  } else {
    add("task.max_length", std::to_string(checkpoint.task.max_length));
  }
  add("task.class_names", fmt::format("{}", fmt::join(checkpoint.task.class_names, ", ")));
  if (checkpoint.training) {
    const train::TrainingState& training = *checkpoint.training;
    add("progress.step", fmt::format("{} of {}", training.progress.step, training.config.steps));
    add("progress.best_accuracy", fmt::format("{:.4g}", training.progress.best_accuracy));
    add("progress.best_step", std::to_string(training.progress.best_step));
  }
}

void add_metadata(Report& report, const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, value] : metadata) add_row(report, "metadata", key, value);
}

template <typename Tensors>
void add_tensors(Report& report, const Tensors& tensors) {
  for (const auto& tensor : tensors) {
    report.add({{"kind", "tensor"},
                {"name", tensor.name},
                {"dtype", tensor.dtype},
                {"shape", shape_text(tensor.shape)},
                {"value", ""}});
  }
}

/// Adds which vision model the tensors of a file belong to, if it is a known one.
template <typename Tensors>
void add_model(Report& report, const Tensors& tensors,
               const std::map<std::string, std::string>& metadata) {
  models::Shapes shapes;
  for (const auto& tensor : tensors) shapes[tensor.name] = tensor.shape;
  try {
    const models::Recognised found = models::recognise(train::state_shapes(shapes), metadata);
    add_row(report, "model", "type", found.architecture.type);
    add_row(report, "model", "variant", found.variant.empty() ? "none" : found.variant);
    for (const auto& [key, value] : found.architecture.config.items()) {
      add_row(report, "model", key, text_of(value));
    }
  } catch (const InputError& error) {
    add_row(report, "model", "type", fmt::format("not known: {}", error.what()));
  }
}

void add_safetensors(Report& report, const std::string& file) {
  const io::SafetensorsHeader header = io::read_safetensors_header(file);
  if (train::is_checkpoint(file)) {
    add_checkpoint(report, train::load_checkpoint(file));
  } else {
    add_metadata(report, header.metadata);
    add_model(report, header.tensors, header.metadata);
  }
  add_tensors(report, header.tensors);
}

void add_pth(Report& report, const std::string& file) {
  const io::PthIndex index = io::read_pth_index(file);
  add_metadata(report, index.metadata);
  for (const io::PthIgnored& entry : index.ignored) {
    add_row(report, "ignored", entry.name, entry.what);
  }
  add_model(report, index.tensors, index.metadata);
  add_tensors(report, index.tensors);
}

void run(const Options& options) {
  Report report;
  if (io::tensor_format(options.file) == io::TensorFormat::kPth) {
    add_pth(report, options.file);
  } else {
    add_safetensors(report, options.file);
  }
  report.print(options.format);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect",
      "Tensors and metadata of a safetensors or torch.save file; model, hash state and progress of "
      "a checkpoint");
  command->add_option("file", options->file, "safetensors or torch.save file (.pth)")->required();
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
