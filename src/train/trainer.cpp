// The training loop. All that decides how a run goes on is in the model, the optimiser, the dropout
// generator and Progress; everything else is derived from the step or the position in the data.
#include "ecoformer/train/trainer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ecoformer/base/atomic_file.h"
#include "ecoformer/base/error.h"
#include "train/learn_hashes.h"
#include "train/metrics_log.h"
#include "train/weight_average.h"

namespace ecoformer::train {
namespace {

namespace fs = std::filesystem;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double peak_memory_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;  // Linux counts in KiB.
}

void require_fit(const models::Classifier& model, const Examples& examples) {
  try {
    if (std::ssize(examples.class_names()) != model.classes()) {
      throw InputError(fmt::format("expected the model's {} classes, got {}", model.classes(),
                                   examples.class_names().size()));
    }
    model.require_takes(examples.bounds());
  } catch (const InputError& error) {
    throw InputError(fmt::format("train: data set '{}': {}", examples.name(), error.what()));
  }
}

/// "key: old, now new" for each key that differs.
std::vector<std::string> differences(const nlohmann::json& old, const nlohmann::json& now) {
  std::set<std::string> keys;
  for (const auto& item : old.items()) keys.insert(item.key());
  for (const auto& item : now.items()) keys.insert(item.key());
  std::vector<std::string> found;
  for (const std::string& key : keys) {
    const nlohmann::json before = old.value(key, nlohmann::json());
    const nlohmann::json after = now.value(key, nlohmann::json());
    if (before != after) {
      found.push_back(fmt::format("{}: {}, now {}", key, before.dump(), after.dump()));
    }
  }
  return found;
}

void require_same(const fs::path& checkpoint, std::string_view what, const nlohmann::json& old,
                  const nlohmann::json& now) {
  const std::vector<std::string> found = differences(old, now);
  if (found.empty()) return;
  throw InputError(fmt::format("resume from {}: expected the same {}, got\n  {}",
                               checkpoint.string(), what, fmt::join(found, "\n  ")));
}

nlohmann::json model_json(const models::Classifier& model) {
  nlohmann::json json = model.config_json();
  json["type"] = model.type();
  return json;
}

void require_resumable(const fs::path& path, const Checkpoint& checkpoint,
                       const models::Classifier& model, const TaskInfo& task,
                       const TrainConfig& config, const std::string& data) {
  if (!checkpoint.training) {
    throw InputError(
        fmt::format("resume from {}: expected a checkpoint with training state, got weights alone",
                    path.string()));
  }
  const TrainingState& training = *checkpoint.training;
  require_same(path, "model", model_json(*checkpoint.model), model_json(model));
  TrainConfig same_steps = config;
  if (config.steps > training.config.steps) same_steps.steps = training.config.steps;
  require_same(path, "training configuration, or more steps", to_json(training.config),
               to_json(same_steps));
  if (checkpoint.task != task) {
    throw InputError(
        fmt::format("resume from {}: expected the same task (classes, tokeniser, "
                    "length, image size), got another one",
                    path.string()));
  }
  if (training.progress.data != data) {
    throw InputError(fmt::format("resume from {}: expected the same data ({}), got {}",
                                 path.string(), training.progress.data, data));
  }
}

/// Weight decay on tensors of two and more dimensions only.
torch::optim::AdamW make_optimizer(const torch::nn::Module& model, const TrainConfig& config) {
  std::vector<torch::Tensor> decayed, plain;
  for (const torch::Tensor& parameter : model.parameters()) {
    (parameter.dim() >= 2 ? decayed : plain).push_back(parameter);
  }
  torch::optim::AdamW optimizer(
      std::vector<torch::optim::OptimizerParamGroup>{torch::optim::OptimizerParamGroup(decayed),
                                                     torch::optim::OptimizerParamGroup(plain)},
      torch::optim::AdamWOptions(config.learning_rate)
          .betas({config.beta1, config.beta2})
          .eps(config.epsilon));
  // Set afterwards: LibTorch takes a group's option that equals the built-in default for unset.
  const double decays[] = {config.weight_decay, 0.0};
  for (std::size_t i = 0; i < 2; ++i) {
    static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[i].options())
        .weight_decay(decays[i]);
  }
  return optimizer;
}

std::map<std::string, at::Tensor> optimizer_state(const torch::nn::Module& model,
                                                  torch::optim::AdamW& optimizer) {
  std::map<std::string, at::Tensor> state;
  for (const auto& item : model.named_parameters()) {
    const auto found = optimizer.state().find(item.value().unsafeGetTensorImpl());
    if (found == optimizer.state().end()) continue;
    const auto& moments = static_cast<const torch::optim::AdamWParamState&>(*found->second);
    state[item.key() + ".exp_avg"] = moments.exp_avg();
    state[item.key() + ".exp_avg_sq"] = moments.exp_avg_sq();
    state[item.key() + ".step"] = torch::tensor(moments.step(), torch::kInt64);
  }
  return state;
}

/// A parameter without state in the file has not been updated yet.
void load_optimizer_state(const torch::nn::Module& model, torch::optim::AdamW& optimizer,
                          const fs::path& path, std::map<std::string, at::Tensor> state) {
  const auto take = [&](const std::string& name, const torch::Tensor& parameter) {
    auto entry = state.extract(name);
    if (entry.empty() || (parameter.defined() && (entry.mapped().sizes() != parameter.sizes() ||
                                                  entry.mapped().dtype() != parameter.dtype()))) {
      throw InputError(fmt::format("resume from {}: expected optimizer.{} as its parameter, got {}",
                                   path.string(), name,
                                   entry.empty() ? "none" : "another shape or dtype"));
    }
    return std::move(entry.mapped());
  };
  for (const auto& item : model.named_parameters()) {
    if (!state.contains(item.key() + ".step")) continue;
    auto moments = std::make_unique<torch::optim::AdamWParamState>();
    const torch::Tensor step = take(item.key() + ".step", {});
    if (step.numel() != 1 || step.scalar_type() != torch::kInt64) {
      throw InputError(fmt::format("resume from {}: expected optimizer.{}.step as one int64",
                                   path.string(), item.key()));
    }
    moments->step(step.item<std::int64_t>());
    moments->exp_avg(take(item.key() + ".exp_avg", item.value()));
    moments->exp_avg_sq(take(item.key() + ".exp_avg_sq", item.value()));
    optimizer.state()[item.value().unsafeGetTensorImpl()] = std::move(moments);
  }
  if (!state.empty()) {
    throw InputError(
        fmt::format("resume from {}: expected the model's parameters, got optimizer.{}",
                    path.string(), state.begin()->first));
  }
}

/// Sums over the steps since the last line of metrics.
struct Window {
  std::int64_t steps = 0, correct = 0, examples = 0, tokens = 0;
  double loss = 0, gradient_norm = 0, seconds = 0;
};

/// One call of Trainer::run.
class Run {
 public:
  Run(std::shared_ptr<models::Classifier> model, const TaskInfo& task, const Examples& train,
      const Examples& validation, const TrainOptions& options, TrainingState& state)
      : model_(std::move(model)),
        task_(task),
        train_(train),
        config_(state.config),
        options_(options),
        state_(state),
        progress_(state.progress),
        last_(options.output / "last.safetensors"),
        best_(options.output / "best.safetensors"),
        loader_(train.training_loader(config_, options.workers)),
        validation_loader_(validation.evaluation_loader(config_.batch_size, options.workers)),
        optimizer_(make_optimizer(*model_, config_)),
        average_(*model_, config_.ema_decay),
        generator_(at::detail::createCPUGenerator(config_.seed)),
        start_(std::chrono::steady_clock::now()),
        seconds_before_(progress_.seconds) {}

  TrainResult operator()() {
    prepare();
    while (progress_.step < config_.steps) {
      if (options_.stop_requested && options_.stop_requested()) {
        save(last_);
        return result(TrainStatus::kStopped);
      }
      learn_if_due();
      step(next_batch());
      const bool finished = progress_.step == config_.steps;
      if (finished || due(config_.log_every)) log_window();
      if (finished || due(config_.eval_every)) evaluate_model();
      if (finished || due(config_.checkpoint_every)) save(last_);
    }
    return result(TrainStatus::kFinished);
  }

 private:
  void prepare() {
    model_->use_generator(generator_);
    model_->train();
    const bool resume = state_.generator.defined();
    if (resume) {
      generator_.set_state(state_.generator);
      load_optimizer_state(*model_, optimizer_, last_, state_.optimizer);
      load_average();
    } else {
      std::error_code failure;
      fs::create_directories(options_.output, failure);
      if (failure) {
        throw Error(fmt::format("train: expected to create the folder {}, got '{}'",
                                options_.output.string(), failure.message()));
      }
      // Shows now, not in an hour, that the folder can be written to.
      save(last_);
      fs::remove(best_, failure);
      if (failure) {
        throw Error(fmt::format("train: expected to remove {}, got '{}'", best_.string(),
                                failure.message()));
      }
    }
    if (!options_.flags.empty()) write_atomically(options_.output / kFlagsFile, options_.flags);
    log_.emplace(options_.output / "metrics.jsonl", resume ? progress_.step : -1);
    saved_step_ = progress_.step;
    loader_->start_epoch(progress_.epoch, progress_.batch);
  }

  void load_average() {
    try {
      average_.load(state_.average);
    } catch (const InputError& error) {
      throw InputError(fmt::format("resume from {}: {}", last_.string(), error.what()));
    }
  }

  bool due(std::int64_t every) const { return every > 0 && progress_.step % every == 0; }

  void event(const std::string& message) const {
    if (options_.on_event) options_.on_event(message);
  }

  data::Batch next_batch() {
    std::optional<data::Batch> batch = loader_->next();
    if (!batch) {
      ++progress_.epoch;
      progress_.batch = 0;
      loader_->start_epoch(progress_.epoch);
      batch = loader_->next();
    }
    ++progress_.batch;
    return *std::move(batch);
  }

  /// The batch about to be taken is the first of an epoch after the first.
  bool at_epoch_due() const {
    const bool ended = progress_.batch == loader_->batches_per_epoch();
    return config_.relearn_every_epochs > 0 && ended &&
           (progress_.epoch + 1) % config_.relearn_every_epochs == 0;
  }

  void learn_if_due() {
    const bool again = progress_.step > 0 && (due(config_.relearn_every_steps) || at_epoch_due());
    if (progress_.step > 0 && !again) return;
    const bool any_eco = [&] {
      const auto layers = model_->attentions();
      return std::any_of(layers.begin(), layers.end(), [](const auto& layer) {
        return dynamic_cast<const nn::EcoAttention*>(layer.get()) != nullptr;
      });
    }();
    if (!any_eco) return;
    const std::int64_t learned = learn_hashes(
        *model_, train_.sample(config_.learning_examples, config_.seed, progress_.step),
        {.neighbours = config_.hash_neighbours,
         .iterations = config_.hash_iterations,
         .query_sample = config_.hash_query_sample,
         .seed = config_.seed},
        /*only_unlearned=*/!again);
    if (learned > 0) {
      event(fmt::format("step {}: learned the hash functions of {} layer{}", progress_.step,
                        learned, learned == 1 ? "" : "s"));
    }
  }

  [[noreturn]] void fail_non_finite(std::string_view what, double value) const {
    throw Error(
        fmt::format("train: expected a finite {} at step {}, got {}\nhint: the last good "
                    "checkpoint, of step {}, "
                    "is {}; start from it with a lower learning rate",
                    what, progress_.step + 1, value, saved_step_, last_.string()));
  }

  /// Mixed examples bring their own targets, smoothed already.
  torch::Tensor loss_of(const torch::Tensor& logits, const data::Batch& batch) const {
    if (batch.targets.defined()) {
      return torch::nn::functional::cross_entropy(logits, batch.targets);
    }
    return torch::nn::functional::cross_entropy(
        logits, batch.labels,
        torch::nn::functional::CrossEntropyFuncOptions().label_smoothing(config_.label_smoothing));
  }

  void step(const data::Batch& batch) {
    const auto start = std::chrono::steady_clock::now();
    const double rate = learning_rate_at(config_, progress_.step);
    for (auto& group : optimizer_.param_groups()) group.options().set_lr(rate);
    optimizer_.zero_grad();
    const torch::Tensor logits = model_->forward(batch.inputs, batch.mask);
    const torch::Tensor loss = loss_of(logits, batch);
    const double loss_value = loss.item<double>();
    if (!std::isfinite(loss_value)) fail_non_finite("loss", loss_value);
    loss.backward();
    const double norm = torch::nn::utils::clip_grad_norm_(
        model_->parameters(),
        config_.clip_norm > 0 ? config_.clip_norm : std::numeric_limits<double>::infinity());
    if (!std::isfinite(norm)) fail_non_finite("gradient norm", norm);
    optimizer_.step();
    average_.update(*model_);
    ++progress_.step;

    const auto correct = logits.argmax(-1).eq(batch.labels).sum().item<std::int64_t>();
    const std::int64_t examples = batch.labels.size(0);
    const std::int64_t tokens = batch.mask.defined() ? batch.mask.sum().item<std::int64_t>() : 0;
    const double seconds = seconds_since(start);
    ++window_.steps;
    window_.correct += correct;
    window_.examples += examples;
    window_.tokens += tokens;
    window_.loss += loss_value;
    window_.gradient_norm += norm;
    window_.seconds += seconds;
    show(loss_value, static_cast<double>(correct), static_cast<double>(examples),
         static_cast<double>(tokens), seconds, rate);
    report_skipped(batch);
  }

  /// The first few by name, then only how many there were, with the next evaluation.
  void report_skipped(const data::Batch& batch) {
    constexpr std::int64_t kNamed = 3;
    for (const std::string& reason : batch.skipped) {
      if (skipped_++ < kNamed) event(fmt::format("warning: left out an example: {}", reason));
    }
  }

  void show(double loss, double correct, double examples, double tokens, double seconds,
            double rate) {
    // Exponential means that start as plain ones.
    const double weight = std::max(0.05, 1.0 / static_cast<double>(++shown_));
    const auto smooth = [weight](double& mean, double value) { mean += weight * (value - mean); };
    smooth(smooth_.loss, loss);
    smooth(smooth_.accuracy, correct / examples);
    smooth(smooth_examples_, examples);
    smooth(smooth_tokens_, tokens);
    smooth(smooth_seconds_, seconds);
    smooth_.step = progress_.step;
    smooth_.steps = config_.steps;
    smooth_.epoch = progress_.epoch;
    smooth_.examples_per_s = smooth_examples_ / smooth_seconds_;
    smooth_.tokens_per_s = smooth_tokens_ / smooth_seconds_;
    smooth_.seconds_left = seconds_since(start_) / static_cast<double>(shown_) *
                           static_cast<double>(config_.steps - progress_.step);
    smooth_.learning_rate = rate;
    if (options_.on_progress) options_.on_progress(smooth_);
  }

  double seconds() const { return seconds_before_ + seconds_since(start_); }

  void log_window() {
    if (window_.steps == 0) return;
    const auto steps = static_cast<double>(window_.steps);
    const auto examples = static_cast<double>(window_.examples);
    nlohmann::json line{{"kind", "train"},
                        {"step", progress_.step},
                        {"epoch", progress_.epoch},
                        {"loss", window_.loss / steps},
                        {"accuracy", static_cast<double>(window_.correct) / examples},
                        {"learning_rate", learning_rate_at(config_, progress_.step - 1)},
                        {"grad_norm", window_.gradient_norm / steps},
                        {"examples_per_s", examples / window_.seconds},
                        {"seconds", seconds()},
                        {"peak_memory_mb", peak_memory_mb()}};
    if (window_.tokens > 0) {
      line["tokens_per_s"] = static_cast<double>(window_.tokens) / window_.seconds;
    }
    log_->append(line);
    window_ = {};
  }

  void evaluate_model() {
    const AveragedScope averaged(average_, *model_);
    const Evaluation evaluation = evaluate(*model_, *validation_loader_);
    if (!std::isfinite(evaluation.loss)) fail_non_finite("validation loss", evaluation.loss);
    nlohmann::json line{{"kind", "eval"},
                        {"step", progress_.step},
                        {"epoch", progress_.epoch},
                        {"loss", evaluation.loss},
                        {"accuracy", evaluation.accuracy},
                        {"standard_error", evaluation.standard_error},
                        {"ms_per_example", evaluation.ms_per_example},
                        {"seconds", seconds()},
                        {"peak_memory_mb", peak_memory_mb()}};
    if (evaluation.top5_accuracy) line["top5_accuracy"] = *evaluation.top5_accuracy;
    log_->append(line);
    if (skipped_ + evaluation.skipped > 0) {
      event(
          fmt::format("warning: left out {} training and {} validation examples that cannot be "
                      "read",
                      skipped_, evaluation.skipped));
    }
    event(fmt::format("step {}: validation accuracy {:.4f} +- {:.4f}, loss {:.4f}", progress_.step,
                      evaluation.accuracy, evaluation.standard_error, evaluation.loss));
    if (evaluation.accuracy > progress_.best_accuracy) {
      progress_.best_accuracy = evaluation.accuracy;
      progress_.best_step = progress_.step;
      save(best_);
    }
  }

  void save(const fs::path& path) {
    // The line of metrics closes here, so that resuming finds no half of one.
    if (log_) log_window();
    for (const auto& item : model_->named_parameters()) {
      // A checkpoint that is written is a good one.
      if (!item.value().isfinite().all().item<bool>()) {
        throw Error(
            fmt::format("train: expected finite weights at step {}, got NaN or infinity in '{}'{}",
                        progress_.step, item.key(),
                        log_ ? fmt::format("\nhint: the last good checkpoint, of step {}, is {}",
                                           saved_step_, last_.string())
                             : ""));
      }
    }
    progress_.seconds = seconds();
    state_.optimizer = optimizer_state(*model_, optimizer_);
    // The best checkpoint's weights are the average, and it is never resumed.
    state_.average = path == last_ ? average_.state() : std::map<std::string, at::Tensor>{};
    state_.generator = generator_.get_state();
    save_checkpoint(path, {.model = model_, .task = task_, .training = state_});
    if (path == last_) saved_step_ = progress_.step;
    event(fmt::format("step {}: saved {}", progress_.step, path.string()));
  }

  TrainResult result(TrainStatus status) const {
    return {.status = status,
            .step = progress_.step,
            .best_accuracy = progress_.best_accuracy,
            .best_step = progress_.best_step};
  }

  std::shared_ptr<models::Classifier> model_;
  const TaskInfo& task_;
  const Examples& train_;
  const TrainConfig& config_;
  const TrainOptions& options_;
  TrainingState& state_;
  Progress& progress_;
  fs::path last_, best_;
  std::unique_ptr<data::Loader> loader_, validation_loader_;
  torch::optim::AdamW optimizer_;
  WeightAverage average_;
  at::Generator generator_;
  std::chrono::steady_clock::time_point start_;
  double seconds_before_;
  std::optional<MetricsLog> log_;
  std::int64_t saved_step_ = 0;
  Window window_;
  TrainProgress smooth_;
  double smooth_examples_ = 0, smooth_tokens_ = 0, smooth_seconds_ = 0;
  std::int64_t skipped_ = 0;
  std::int64_t shown_ = 0;
};

}  // namespace

Trainer::Trainer(std::shared_ptr<models::Classifier> model, TaskInfo task, const Examples& train,
                 const Examples& validation, const TrainConfig& config, TrainOptions options)
    : model_(std::move(model)),
      task_(std::move(task)),
      train_(train),
      validation_(validation),
      options_(std::move(options)) {
  validate(config);
  require_fit(*model_, train);
  require_fit(*model_, validation);
  if (options_.resume && options_.overwrite) {
    throw InputError("train: expected either resume or overwrite, got both");
  }
  const std::string data =
      fmt::format("train {}, validation {}", train.fingerprint(), validation.fingerprint());
  const fs::path last = options_.output / "last.safetensors";
  if (options_.resume) {
    if (std::error_code ignored; !fs::exists(last, ignored)) {
      throw InputError(
          fmt::format("resume from {}: expected a checkpoint, got no such file", last.string()));
    }
    Checkpoint checkpoint = load_checkpoint(last);
    require_resumable(last, checkpoint, *model_, task_, config, data);
    model_ = checkpoint.model;
    state_ = *std::move(checkpoint.training);
  } else {
    for (const char* name : {"last.safetensors", "best.safetensors", "metrics.jsonl"}) {
      std::error_code ignored;
      if (!options_.overwrite && fs::exists(options_.output / name, ignored)) {
        throw InputError(fmt::format(
            "train: expected an output folder without a run, got {} with '{}'\nhint: resume it, "
            "overwrite it, or choose another folder",
            options_.output.string(), name));
      }
    }
    state_.progress.data = data;
  }
  state_.config = config;
}

TrainResult Trainer::run() {
  return Run(model_, task_, train_, validation_, options_, state_)();
}

}  // namespace ecoformer::train
