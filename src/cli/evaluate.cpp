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
#include "ecoformer/nn/attention.h"
#include "hash_precision.h"
#include "open_model.h"
#include "progress.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::vector<std::string> checkpoints;
  std::string architecture;
  DataOptions data;
  std::string dtype = "float32";
  kernels::Precision hash_precision = kernels::Precision::kFloat32;
  std::string split = "test";
  std::int64_t batch_size = 32;
  std::int64_t workers = 2;
  Format format = Format::kTable;
};

const train::Examples& split_of(const Task& task, const std::string& name) {
  if (name == "train") return *task.train;
  return name == "validation" ? *task.validation : *task.test;
}

/// One batch beforehand: the first products of a process set up threads and buffers, which would be
/// charged to whichever checkpoint comes first.
void warm_up(models::Classifier& model, data::Loader& loader) {
  const torch::NoGradGuard no_gradients;
  model.eval();
  loader.start_epoch(0);
  if (const std::optional<data::Batch> batch = loader.next()) {
    model.forward(batch->inputs, batch->mask);
  }
}

/// Share of the bits of all codes that bfloat16 changes, on the first batch.
double share_of_changed_bits(models::Classifier& model, data::Loader& loader) {
  double sum = 0;
  std::int64_t count = 0;
  for (const std::shared_ptr<nn::Attention>& attention : model.attentions()) {
    auto* eco = dynamic_cast<nn::EcoAttention*>(attention.get());
    if (eco == nullptr) continue;
    eco->observe([&sum, &count, eco](const torch::Tensor& q, const torch::Tensor& k,
                                     const torch::Tensor&, const nn::Masks& masks) {
      sum += eco->ksh->share_changed_by_bfloat16(q, masks.queries) +
             eco->ksh->share_changed_by_bfloat16(k, masks.keys);
      count += 2;
    });
  }
  warm_up(model, loader);
  for (const std::shared_ptr<nn::Attention>& attention : model.attentions()) {
    attention->observe(nullptr);
  }
  return count == 0 ? 0 : sum / static_cast<double>(count);
}

void run(const Options& options) {
  std::vector<OpenedModel> models;
  for (const std::string& path : options.checkpoints) {
    models.push_back(open_model(path, options.architecture));
    set_dtype(*models.back().model, options.dtype);
    set_hash_precision(*models.back().model, options.hash_precision);
    if (models.back().task != models.front().task ||
        models.back().model->classes() != models.front().model->classes()) {
      throw InputError(fmt::format("--checkpoint: expected models of one task, got '{}' and '{}'",
                                   options.checkpoints.front(), path));
    }
  }
  const Task task = load_task_for(models.front(), options.data);
  const train::Examples& set = split_of(task, options.split);
  const auto loader = set.evaluation_loader(options.batch_size, options.workers);

  Report report;
  for (std::size_t i = 0; i < models.size(); ++i) {
    models::Classifier& model = *models[i].model;
    model.require_takes(set.bounds());
    log_line(fmt::format("evaluating {} on {} examples", options.checkpoints[i], set.size()));
    warm_up(model, *loader);
    if (options.hash_precision == kernels::Precision::kBfloat16) {
      log_line(fmt::format("bfloat16 changes {:.2f} % of the bits of the first batch's codes",
                           100 * share_of_changed_bits(model, *loader)));
    }
    const train::Evaluation result = train::evaluate(model, *loader);
    const double examples = static_cast<double>(std::max<std::int64_t>(1, result.examples));
    const auto tokens =
        std::max<std::int64_t>(1, std::llround(static_cast<double>(result.tokens) / examples));
    const std::int64_t size = task.info.image_size;
    const models::MapSize input =
        size > 0 ? models::MapSize{size, size} : models::MapSize{1, tokens};
    const models::Architecture architecture{model.type(), model.config_json()};
    const energy::Row published = energy::count(architecture, input, energy::Counting::kPublished);
    const energy::Row counted = energy::count(architecture, input, energy::Counting::kCounted);
    if (result.skipped > 0) {
      log_line(fmt::format("warning: left out {} examples that cannot be read", result.skipped));
    }
    report.add(
        {{"checkpoint", options.checkpoints[i]},
         {"attention", published.attention},
         {"split", options.split},
         {"examples", result.examples},
         {"skipped", result.skipped},
         {"tokens", published.tokens},
         {"accuracy", result.accuracy},
         {"standard_error", result.standard_error},
         {"top5_accuracy", result.top5_accuracy ? nlohmann::ordered_json(*result.top5_accuracy)
                                                : nlohmann::ordered_json()},
         {"loss", result.loss},
         {"energy_published_mj", energy_mj(published.operations)},
         {"energy_counted_mj", energy_mj(counted.operations)},
         {"latency_ms", result.ms_per_example},
         {"examples_per_s", examples / std::max(result.seconds, 1e-9)}});
  }
  report.print(options.format);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("evaluate",
                         "Accuracy, loss, energy and latency of checkpoints; "
                         "energy is that of an image, or a sequence of mean length");
  command->add_option("--checkpoint", options->checkpoints, "One or more, a row each")->required();
  add_architecture_option(*command, options->architecture);
  add_dtype_option(*command, options->dtype);
  add_hash_precision_option(*command, options->hash_precision);
  add_data_option(*command, options->data);
  command->get_option("--data")->required();
  add_view_options(*command, options->data.image_size, options->data.crop);
  add_strict_option(*command, options->data);
  command->add_option("--split", options->split, "Which examples")
      ->check(CLI::IsMember({"train", "validation", "test"}))
      ->group("Data");
  command->add_option("--batch-size", options->batch_size, "Examples at a time");
  command->add_option("--workers", options->workers, "Threads that prepare batches")
      ->check(CLI::Range(0, 256));
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
