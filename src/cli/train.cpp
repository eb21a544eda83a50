// `train`: trains a model, or fine-tunes a trained or converted one, from flags and a configuration
// file.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "command.h"
#include "config_file.h"
#include "data_options.h"
#include "ecoformer/base/error.h"
#include "ecoformer/train/trainer.h"
#include "model_options.h"
#include "progress.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  DataOptions data;
  ModelOptions model;
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;
  train::TrainConfig config;
  std::string from;
  train::TrainOptions run;
  std::string output;
  std::string config_file;
  bool dump_config = false;
  Format format = Format::kTable;
};

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

extern "C" void request_stop(int /*signal*/) {
  stop_requested = true;
}

/// While it lives, the first Ctrl-C asks the trainer to stop and the second ends the program.
class InterruptGuard {
 public:
  InterruptGuard() {
    struct sigaction action {};
    action.sa_handler = request_stop;
    action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &before_, nullptr); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction before_ {};
};

/// Flags that describe a model may only repeat what the model of `--from` is.
void check_model_flags(const CLI::App& command, const Options& options,
                       const models::SequenceEncoderConfig& found) {
  const nlohmann::json wanted = models::to_json(config_of(options.model));
  const nlohmann::json actual = models::to_json(found);
  for (const CLI::Option* option : command.get_options()) {
    std::string key = option->get_name().substr(2);
    std::replace(key.begin(), key.end(), '-', '_');
    const bool asked = option->count() > 0 && wanted.contains(key);
    if (asked && key != "vocabulary" && key != "positions" && wanted.at(key) != actual.at(key)) {
      throw InputError(fmt::format("{}: expected {} as in the model of --from, got {}",
                                   option->get_name(), actual.at(key).dump(),
                                   wanted.at(key).dump()));
    }
  }
}

models::SequenceEncoder new_model(const Options& options, const Task& task) {
  models::SequenceEncoderConfig config = config_of(options.model);
  config.vocabulary = options.vocabulary > 0 ? options.vocabulary : task.splits.train.vocabulary;
  config.positions = options.positions > 0 ? options.positions : task.info.max_length;
  config.classes = std::ssize(task.info.class_names);
  return models::SequenceEncoder(config, options.config.seed);
}

std::string details_of(const train::TrainProgress& at) {
  return fmt::format("loss {:.4f}  accuracy {:.3f}  {:.0f} tokens/s  {} left", at.loss, at.accuracy,
                     at.tokens_per_s, duration_text(at.seconds_left));
}

void run(CLI::App& command, Options& options) {
  if (!options.config_file.empty()) apply_config_file(command, options.config_file);
  if (options.dump_config) {
    std::cout << dump_config(command);
    return;
  }
  require("--data", options.data.source);
  require("--output", options.output);
  if (options.run.resume && options.run.overwrite) {
    throw InputError("--resume: expected either --resume or --overwrite, got both");
  }
  train::validate(options.config);
  config_of(options.model);
  check_writable_folder("--output", options.output);

  train::Checkpoint start;
  Task task;
  if (options.from.empty()) {
    task = load_task(options.data);
    start = {.model = new_model(options, task), .task = task.info};
  } else {
    start = train::load_model(options.from);
    check_model_flags(command, options, start.model->config());
    task = load_task_for(start.task, options.data);
  }

  Progress progress("train", options.config.steps, options.config.log_every);
  options.run.output = options.output;
  options.run.on_progress = [&](const train::TrainProgress& at) {
    progress.update(at.step, details_of(at));
  };
  options.run.on_event = [&](const std::string& message) { progress.log(message); };
  options.run.stop_requested = [] { return stop_requested.load(); };
  if (task.splits.validation_is_test) {
    progress.log(
        "note: this data has one held-out set, so it selects the best checkpoint and tests it too");
  }
  const InterruptGuard interrupts;
  train::Trainer trainer(start.model, start.task, task.splits.train, task.splits.validation,
                         options.config, options.run);
  const train::TrainResult result = trainer.run();
  const bool finished = result.status == train::TrainStatus::kFinished;
  if (!finished) progress.log(fmt::format("stopped at step {}; --resume goes on", result.step));
  nlohmann::ordered_json row{{"status", finished ? "finished" : "stopped"},
                             {"step", result.step},
                             {"best_accuracy", nullptr},
                             {"best_step", nullptr},
                             {"output", options.output}};
  if (result.best_accuracy >= 0) {
    row["best_accuracy"] = result.best_accuracy;
    row["best_step"] = result.best_step;
  }
  Report report;
  report.add(std::move(row));
  report.print(options.format);
}

void add_training_options(CLI::App& command, train::TrainConfig& config) {
  const auto add = [&](const std::string& group, const std::string& name, auto& value,
                       const std::string& help) {
    return command.add_option(name, value, help)->group(group);
  };
  const std::string optimisation = "Optimisation";
  add(optimisation, "--steps", config.steps, "Updates in all, and the length of the schedule");
  add(optimisation, "--batch-size", config.batch_size, "Sequences a step");
  add(optimisation, "--learning-rate", config.learning_rate, "Peak of the schedule");
  add(optimisation, "--schedule", config.schedule, "one_cycle or warmup_cosine")
      ->check(CLI::IsMember({"one_cycle", "warmup_cosine"}));
  add(optimisation, "--warmup-steps", config.warmup_steps, "Steps to the peak");
  add(optimisation, "--warmup-learning-rate", config.warmup_learning_rate,
      "First rate of warmup_cosine");
  add(optimisation, "--min-learning-rate", config.min_learning_rate, "Last rate of warmup_cosine");
  add(optimisation, "--weight-decay", config.weight_decay, "Of AdamW");
  add(optimisation, "--beta1", config.beta1, "Of AdamW");
  add(optimisation, "--beta2", config.beta2, "Of AdamW");
  add(optimisation, "--epsilon", config.epsilon, "Of AdamW");
  add(optimisation, "--clip-norm", config.clip_norm, "Largest gradient norm; 0 for no clipping");
  add(optimisation, "--label-smoothing", config.label_smoothing, "In [0, 1)");
  add(optimisation, "--seed", config.seed, "Of weights, data order, dropout and hash learning");

  const std::string hashing = "Hash functions";
  add(hashing, "--relearn-every-steps", config.relearn_every_steps,
      "Learn them again; 0 for never");
  add(hashing, "--relearn-every-epochs", config.relearn_every_epochs, "The same by epochs");
  add(hashing, "--learning-sequences", config.learning_sequences,
      "Sequences they are learned from");
  add(hashing, "--hash-neighbours", config.hash_neighbours,
      "Most and least similar keys of a query");
  add(hashing, "--hash-iterations", config.hash_iterations, "Ascent steps a bit");
  add(hashing, "--hash-query-sample", config.hash_query_sample, "Most queries a head");

  const std::string run = "Run";
  add(run, "--log-every", config.log_every, "Steps between lines of metrics");
  add(run, "--eval-every", config.eval_every, "Steps between evaluations; 0 for the last only");
  add(run, "--checkpoint-every", config.checkpoint_every,
      "Steps between checkpoints; 0 for start and end");
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "train",
      "Train a model, or fine-tune one; Ctrl-C saves a checkpoint and stops, a second one kills");
  command
      ->add_option("--config", options->config_file,
                   "TOML file of flags; the command line goes first")
      ->configurable(false);
  command
      ->add_flag("--dump-config", options->dump_config,
                 "Print all flags as such a file and exit [off]")
      ->configurable(false);
  add_data_option(*command, options->data);
  add_coding_options(*command, options->data);
  add_model_options(*command, options->model);
  command
      ->add_option("--attention", options->model.config.attention.mechanism, "Attention mechanism")
      ->check(one_of(nn::attention_mechanisms()))
      ->group("Model");
  command
      ->add_option("--vocabulary", options->vocabulary,
                   "Rows of the embedding; 0 for the data's token ids")
      ->group("Model");
  command
      ->add_option("--positions", options->positions, "Longest sequence; 0 for the data's maximum")
      ->group("Model");
  command->add_option("--dropout", options->model.config.dropout, "Probability, in [0, 1)")
      ->group("Model");
  command->add_option("--from", options->from, "Checkpoint to fine-tune; it brings the model");
  add_training_options(*command, options->config);
  command->add_option("--output", options->output,
                      "Folder for last.safetensors, best.safetensors, metrics.jsonl");
  command
      ->add_flag("--resume", options->run.resume, "Go on from the folder's last checkpoint [off]")
      ->configurable(false);
  command
      ->add_flag("--overwrite", options->run.overwrite,
                 "Replace the run that the folder holds [off]")
      ->configurable(false);
  command->add_option("--workers", options->run.workers, "Threads that prepare batches")
      ->check(CLI::Range(0, 256))
      ->group("Run");
  add_format_option(*command, options->format);
  command->callback([command, options] { run(*command, *options); });
}

}  // namespace ecoformer::cli
