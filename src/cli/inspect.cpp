// `inspect`: what is in a safetensors file and, if it is one of ours, in a checkpoint.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <string>

#include "command.h"
#include "ecoformer/io/safetensors_header.h"
#include "ecoformer/train/checkpoint.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::string file;
  Format format = Format::kTable;
};

/// Adds what a checkpoint means beyond its tensors.
void add_checkpoint(Report& report, const train::Checkpoint& checkpoint) {
  const auto add = [&report](const std::string& name, const std::string& value) {
    report.add(
        {{"kind", "checkpoint"}, {"name", name}, {"dtype", ""}, {"shape", ""}, {"value", value}});
  };
  const auto config = models::to_json(checkpoint.model->config());
  for (const auto& [key, value] : config.items()) {
    add("model." + key, value.is_string() ? value.get<std::string>() : value.dump());
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
  add("task.max_length", std::to_string(checkpoint.task.max_length));
  add("task.class_names", fmt::format("{}", fmt::join(checkpoint.task.class_names, ", ")));
  if (checkpoint.training) {
    const train::TrainingState& training = *checkpoint.training;
    add("progress.step", fmt::format("{} of {}", training.progress.step, training.config.steps));
    add("progress.best_accuracy", fmt::format("{:.4g}", training.progress.best_accuracy));
    add("progress.best_step", std::to_string(training.progress.best_step));
  }
}

void run(const Options& options) {
  const io::SafetensorsHeader header = io::read_safetensors_header(options.file);
  Report report;
  const auto format = header.metadata.find("format");
  if (format != header.metadata.end() && format->second.rfind("ecoformer-checkpoint", 0) == 0) {
    add_checkpoint(report, train::load_checkpoint(options.file));
  } else {
    for (const auto& [key, value] : header.metadata) {
      report.add(
          {{"kind", "metadata"}, {"name", key}, {"dtype", ""}, {"shape", ""}, {"value", value}});
    }
  }
  for (const io::TensorInfo& tensor : header.tensors) {
    report.add({{"kind", "tensor"},
                {"name", tensor.name},
                {"dtype", tensor.dtype},
                {"shape", shape_text(tensor.shape)},
                {"value", ""}});
  }
  report.print(options.format);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect",
      "Tensors and metadata of a safetensors file; model, hash state and progress of a checkpoint");
  command->add_option("file", options->file, "safetensors file")->required();
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
