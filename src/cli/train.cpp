// `train`: trains a model, or fine-tunes a trained or converted one, from flags and a configuration
// file.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "command.h"
#include "config_file.h"
#include "data_options.h"
#include "ecoformer/base/error.h"
#include "ecoformer/models/pyramid.h"
#include "ecoformer/train/pretrained.h"
#include "ecoformer/train/trainer.h"
#include "model_options.h"
#include "open_model.h"
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
  std::string architecture;
  bool reset_head = false;
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

/// Flags that describe a model may only repeat what the model of `--from` is, except for those that
/// regularise: they change it.
std::shared_ptr<models::Classifier> apply_model_flags(
    const CLI::App& command, const Options& options,
    const std::shared_ptr<models::Classifier>& found) {
  refuse_foreign_flags(command, found->type());
  nlohmann::json wanted = to_json(config_of(options.model));
  wanted["drop_path"] = options.model.drop_path;
  nlohmann::json actual = found->config_json();
  nlohmann::json changes = nlohmann::json::object();
  const auto compare = [&](const std::string& flag, const std::string& key) {
    if (wanted.at(key) != actual.at(key)) {
      throw InputError(fmt::format("{}: expected {} as in the model of --from, got {}", flag,
                                   actual.at(key).dump(), wanted.at(key).dump()));
    }
  };
  for (const CLI::Option* option : command.get_options()) {
    const std::string flag = option->get_name();
    std::string key = flag.substr(2);
    std::replace(key.begin(), key.end(), '-', '_');
    if (option->count() == 0 || !wanted.contains(key) || !actual.contains(key)) continue;
    if (key == "vocabulary" || key == "positions") continue;
    if (key == "dropout" || key == "drop_path") {
      changes[key] = wanted.at(key);
    } else {
      compare(flag, key);
    }
  }
  if (command.get_option("--model")->count() > 0 && options.model.model != kSequenceEncoder) {
    const models::Architecture named = models::named_architecture(options.model.model);
    if (named.type != found->type()) {
      throw InputError(fmt::format("--model: expected {} as in the model of --from, got {}",
                                   found->type(), options.model.model));
    }
    wanted = named.config;
    for (const char* key : {"widths", "depths", "mlp_ratios"}) {
      if (actual.contains(key)) compare("--model", key);
    }
  }
  return changes.empty() ? found : train::with_config(*found, changes);
}

std::shared_ptr<models::Classifier> new_model(const CLI::App& command, const Options& options,
                                              const Task& task) {
  ModelOptions wanted = options.model;
  const bool images = wanted.model != kSequenceEncoder;
  // Vision models have an attention of their own, which is what they start from.
  if (images && command.get_option("--attention")->count() == 0) {
    wanted.config.attention.mechanism = models::kOriginalAttention;
  }
  models::Architecture architecture = architecture_of(wanted);
  architecture.config["classes"] = task.info.class_names.size();
  if (!images) {
    const models::InputBounds bounds = task.train->bounds();
    architecture.config["vocabulary"] =
        options.vocabulary > 0 ? options.vocabulary : bounds.vocabulary;
    architecture.config["positions"] =
        options.positions > 0 ? options.positions : task.info.max_length;
  }
  return models::make_classifier(architecture.type, architecture.config, options.config.seed);
}

/// A run's model and data.
struct Start {
  std::shared_ptr<models::Classifier> model;
  Task task;
};

Start start_new(const CLI::App& command, const Options& options) {
  if (!options.architecture.empty() || options.reset_head) {
    throw InputError("train: expected --architecture and --reset-head with --from alone");
  }
  refuse_foreign_flags(command, options.model.model);
  const InputKind kind =
      options.model.model == kSequenceEncoder ? InputKind::kSequences : InputKind::kImages;
  Start start{.model = nullptr, .task = load_task(options.data, kind)};
  start.model = new_model(command, options, start.task);
  return start;
}

Start start_from(const CLI::App& command, const Options& options) {
  OpenedModel opened = open_model(options.from, options.architecture);
  opened.model = apply_model_flags(command, options, opened.model);
  Start start{.model = opened.model,
              .task = load_task_for(opened, options.data,
                                    options.reset_head ? Classes::kOfData : Classes::kOfModel)};
  if (options.reset_head) {
    start.model = train::with_new_head(*opened.model, std::ssize(start.task.info.class_names),
                                       options.config.seed);
  }
  return start;
}

/// The flags that the run in --output was started with.
std::filesystem::path flags_file(const Options& options) {
  return std::filesystem::path(options.output) / train::kFlagsFile;
}

std::string details_of(const train::TrainProgress& at) {
  const std::string speed = at.tokens_per_s > 0 ? fmt::format("{:.0f} tokens/s", at.tokens_per_s)
                                                : fmt::format("{:.1f} images/s", at.examples_per_s);
  return fmt::format("loss {:.4f}  accuracy {:.3f}  {}  {} left", at.loss, at.accuracy, speed,
                     duration_text(at.seconds_left));
}

void run(CLI::App& command, Options& options) {
  if (!options.config_file.empty()) apply_config_file(command, options.config_file);
  if (options.dump_config) {
    std::cout << dump_config(command);
    return;
  }
  require("--output", options.output);
  if (options.run.resume && std::filesystem::exists(flags_file(options))) {
    apply_config_file(command, flags_file(options));
  }
  require("--data", options.data.source);
  if (options.run.resume && options.run.overwrite) {
    throw InputError("--resume: expected either --resume or --overwrite, got both");
  }
  train::validate(options.config);
  config_of(options.model);
  check_writable_folder("--output", options.output);

  const Start start =
      options.from.empty() ? start_new(command, options) : start_from(command, options);
  const Task& task = start.task;

  Progress progress("train", options.config.steps, options.config.log_every);
  options.run.output = options.output;
  options.run.flags = given_flags(command);
  options.run.on_progress = [&](const train::TrainProgress& at) {
    progress.update(at.step, details_of(at));
  };
  options.run.on_event = [&](const std::string& message) { progress.log(message); };
  options.run.stop_requested = [] { return stop_requested.load(); };
  if (task.validation_is_test) {
    progress.log(
        "note: this data has one held-out set, so it selects the best checkpoint and tests it too");
  }
  const InterruptGuard interrupts;
  train::Trainer trainer(start.model, task.info, *task.train, *task.validation, options.config,
                         options.run);
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
  add(optimisation, "--batch-size", config.batch_size, "Examples a step");
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
  add(optimisation, "--ema-decay", config.ema_decay,
      "Of a moving average of the weights, which then is validated and kept as the best; 0 for "
      "none");
  add(optimisation, "--seed", config.seed, "Of weights, data order, dropout and hash learning");

  const std::string hashing = "Hash functions";
  add(hashing, "--relearn-every-steps", config.relearn_every_steps,
      "Learn them again; 0 for never");
  add(hashing, "--relearn-every-epochs", config.relearn_every_epochs, "The same by epochs");
  add(hashing, "--learning-examples", config.learning_examples, "Examples they are learned from");
  add(hashing, "--hash-neighbours", config.hash_neighbours,
      "Most and least similar keys of a query");
  add(hashing, "--hash-iterations", config.hash_iterations, "Ascent steps a bit");
  add(hashing, "--hash-query-sample", config.hash_query_sample, "Most queries a head");

  const std::string images = "Images";
  command
      .add_flag("--augment", config.augment,
                "Random resized crop (CIFAR: of the framed picture), flip, RandAugment, random "
                "erasing [off]")
      ->group(images);
  command.add_flag("--mix", config.mix, "Mixup or CutMix of every batch [off]")->group(images);
  add(images, "--repeats", config.repeats,
      "Times a picture occurs in an epoch, which stays as long: repeated augmentation");

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
  add_view_options(*command, options->data.image_size, options->data.crop);
  add_strict_option(*command, options->data);
  std::vector<std::string> names = models::architecture_names();
  names.insert(names.begin(), kSequenceEncoder);
  add_model_options(*command, options->model, names);
  std::vector<std::string> mechanisms = nn::attention_mechanisms();
  mechanisms.insert(mechanisms.begin(), models::kOriginalAttention);
  command
      ->add_option("--attention", options->model.config.attention.mechanism,
                   "Attention mechanism; of vision models original is the default")
      ->check(one_of(mechanisms))
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
  command
      ->add_option("--drop-path", options->model.drop_path,
                   "Vision models: probability to drop the last block, in [0, 1)")
      ->group("Model");
  command->add_option(
      "--from", options->from,
      "Checkpoint to fine-tune, or a vision model's weights of the authors or timm; "
      "it brings the model");
  add_architecture_option(*command, options->architecture);
  command->add_flag("--reset-head", options->reset_head,
                    "With --from: a new classifier for the classes of the data [off]");
  add_training_options(*command, options->config);
  command->add_option("--output", options->output,
                      "Folder for last.safetensors, best.safetensors, metrics.jsonl, train.toml");
  command
      ->add_flag("--resume", options->run.resume,
                 "Go on from the folder's last checkpoint, with the flags in its "
                 "train.toml; --threads is not among them [off]")
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
