// `convert`: a dense checkpoint and data in, an EcoFormer checkpoint out.

#include "ecoformer/train/convert.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "command.h"
#include "data_options.h"
#include "ecoformer/train/checkpoint.h"
#include "model_options.h"
#include "open_model.h"
#include "progress.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::string checkpoint;
  std::string architecture;
  std::string attention = "eco";
  std::string output;
  DataOptions data;
  ModelOptions model;  ///< of which the EcoFormer flags are read
  train::ConvertOptions convert;
  Format format = Format::kTable;
};

template <typename Value>
nlohmann::ordered_json or_null(const std::optional<Value>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

void run(Options& options) {
  const models::SequenceEncoderConfig eco = config_of(options.model);
  options.convert.projection = eco.projection;
  options.convert.attention = eco.attention;
  options.convert.attention.mechanism = "eco";
  check_writable_file("--output", options.output);
  const OpenedModel dense = open_model(options.checkpoint, options.architecture);
  const Task task = load_task_for(dense, options.data);
  if (options.attention == "softmax") {
    train::save_checkpoint(options.output,
                           {.model = train::to_softmax(*dense.model), .task = task.info});
    return log_line(fmt::format("wrote {} with softmax attention", options.output));
  }

  log_line(
      fmt::format("learning hash functions from {} training examples", options.convert.examples));
  const train::Conversion conversion = train::convert(dense.model, *task.train, options.convert);
  train::save_checkpoint(options.output, {.model = conversion.model, .task = task.info});

  Report report;
  for (const train::HeadReport& head : conversion.heads) {
    report.add({{"layer", head.layer},
                {"head", head.head},
                {"recall", head.recall},
                {"chance_recall", head.chance_recall},
                {"pearson", head.pearson},
                {"spearman", head.spearman},
                {"sigma", or_null(head.sigma)},
                {"beta", or_null(head.beta)}});
  }
  report.print(options.format);
}

}  // namespace

void add_convert(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert",
                                         "Turn a dense checkpoint into an EcoFormer one, and "
                                         "report how its codes rank the dense attention");
  command
      ->add_option("--checkpoint", options->checkpoint,
                   "Dense checkpoint, or a vision model's weights of the authors or timm")
      ->required();
  add_architecture_option(*command, options->architecture);
  command
      ->add_option("--attention", options->attention,
                   "eco; or softmax, which turns the original attention of a vision model into the "
                   "dense baseline and learns nothing")
      ->check(one_of({"eco", "softmax"}));
  command->add_option("--output", options->output, "EcoFormer checkpoint to write")->required();
  add_data_option(*command, options->data);
  command->get_option("--data")->required();
  add_view_options(*command, options->data.image_size, options->data.crop);
  add_strict_option(*command, options->data);
  add_eco_options(*command, options->model);
  const std::string group = "Hash functions";
  command->add_option("--examples", options->convert.examples, "Training examples to learn from")
      ->group(group);
  command
      ->add_option("--neighbours", options->convert.learner.neighbours,
                   "Most and least similar keys of a query")
      ->group(group);
  command->add_option("--iterations", options->convert.learner.iterations, "Ascent steps a bit")
      ->group(group);
  command
      ->add_option("--query-sample", options->convert.learner.query_sample, "Most queries a head")
      ->group(group);
  command->add_option("--seed", options->convert.seed, "Of sampling and learning")->group(group);
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
