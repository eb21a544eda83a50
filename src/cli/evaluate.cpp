// `evaluate`: accuracy, loss, energy and latency of one or more checkpoints on a data set.

#include "ecoformer/train/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "data_options.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/loader.h"
#include "ecoformer/energy/energy.h"
#include "ecoformer/train/checkpoint.h"
#include "progress.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::vector<std::string> checkpoints;
  DataOptions data;
  std::string split = "test";
  data::LoaderOptions loader{.shuffle = false};
  Format format = Format::kTable;
};

const data::SequenceDataset& split_of(const data::SequenceSplits& splits, const std::string& name) {
  if (name == "train") return splits.train;
  return name == "validation" ? splits.validation : splits.test;
}

/// One batch beforehand: the first products of a process set up threads and buffers, which would be
/// charged to whichever checkpoint comes first.
void warm_up(models::SequenceEncoder model, data::Loader& loader) {
  const torch::NoGradGuard no_gradients;
  model->eval();
  loader.start_epoch(0);
  if (const std::optional<data::Batch> batch = loader.next()) {
    model->forward(batch->inputs, batch->mask);
  }
}

void run(const Options& options) {
  std::vector<train::Checkpoint> checkpoints;
  for (const std::string& path : options.checkpoints) {
    checkpoints.push_back(train::load_model(path));
    if (checkpoints.back().task != checkpoints.front().task) {
      throw InputError(fmt::format("--checkpoint: expected models of one task, got '{}' and '{}'",
                                   options.checkpoints.front(), path));
    }
  }
  const Task task = load_task_for(checkpoints.front().task, options.data);
  const data::SequenceDataset& set = split_of(task.splits, options.split);
  data::SequenceLoader loader(set, options.loader);

  Report report;
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    log_line(
        fmt::format("evaluating {} on {} sequences", options.checkpoints[i], set.examples.size()));
    warm_up(checkpoints[i].model, loader);
    const train::Evaluation result = train::evaluate(checkpoints[i].model, loader);
    const double examples = static_cast<double>(std::max<std::int64_t>(1, result.examples));
    const auto tokens =
        std::max<std::int64_t>(1, std::llround(static_cast<double>(result.tokens) / examples));
    const auto& config = checkpoints[i].model->config();
    const energy::Row published = energy::count(config, tokens, energy::Counting::kPublished);
    const energy::Row counted = energy::count(config, tokens, energy::Counting::kCounted);
    report.add(
        {{"checkpoint", options.checkpoints[i]},
         {"attention", published.attention},
         {"split", options.split},
         {"examples", result.examples},
         {"tokens", tokens},
         {"accuracy", result.accuracy},
         {"standard_error", result.standard_error},
         {"loss", result.loss},
         {"energy_published_mj", energy_mj(published.operations)},
         {"energy_counted_mj", energy_mj(counted.operations)},
         {"latency_ms", result.ms_per_sequence},
         {"tokens_per_s", static_cast<double>(result.tokens) / std::max(result.seconds, 1e-9)}});
  }
  report.print(options.format);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("evaluate",
                                         "Accuracy, loss, energy and latency of checkpoints; "
                                         "energy is that of a sequence of mean length");
  command->add_option("--checkpoint", options->checkpoints, "One or more, a row each")->required();
  add_data_option(*command, options->data);
  command->get_option("--data")->required();
  command->add_option("--split", options->split, "Which examples")
      ->check(CLI::IsMember({"train", "validation", "test"}))
      ->group("Data");
  command->add_option("--batch-size", options->loader.batch_size, "Sequences at a time");
  command->add_option("--workers", options->loader.workers, "Threads that prepare batches")
      ->check(CLI::Range(0, 256));
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
