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

#include "ecoformer/base/error.h"
#include "train/learn_hashes.h"
#include "train/metrics_log.h"

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

std::int64_t count_real(const torch::Tensor& mask) {
  return mask.sum().item<std::int64_t>();
}

/// FNV-1a over all tokens and labels: tells whether two runs had the same data.
std::string fingerprint(const data::SequenceDataset& dataset) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](std::int64_t value) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x100000001b3;
  };
  for (const data::Example& example : dataset.examples) {
    for (const std::int32_t token : example.tokens) add(token);
    add(-1 - example.label);
  }
  return fmt::format("{} examples {:016x}", dataset.examples.size(), hash);
}

void require_fit(const models::SequenceEncoderConfig& model, const data::SequenceDataset& data) {
  const auto refuse = [&](std::string_view expected, std::int64_t found) {
    throw InputError(
        fmt::format("train: expected data set '{}' with {}, got {}", data.name, expected, found));
  };
  std::size_t longest = 0;
  for (const data::Example& example : data.examples) {
    longest = std::max(longest, example.tokens.size());
  }
  if (std::ssize(data.class_names) != model.classes) {
    refuse(fmt::format("the model's {} classes", model.classes), std::ssize(data.class_names));
  }
  if (data.vocabulary > model.vocabulary) {
    refuse(fmt::format("token ids below the model's vocabulary of {}", model.vocabulary),
           data.vocabulary - 1);
  }
  if (static_cast<std::int64_t>(longest) > model.positions) {
    refuse(fmt::format("sequences of at most the model's {} positions", model.positions),
           static_cast<std::int64_t>(longest));
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

void require_resumable(const fs::path& path, const Checkpoint& checkpoint,
                       const models::SequenceEncoder& model, const TaskInfo& task,
                       const TrainConfig& config, const std::string& data) {
  if (!checkpoint.training) {
    throw InputError(
        fmt::format("resume from {}: expected a checkpoint with training state, got weights alone",
                    path.string()));
  }
  const TrainingState& training = *checkpoint.training;
  require_same(path, "model", models::to_json(checkpoint.model->config()),
               models::to_json(model->config()));
  TrainConfig same_steps = config;
  if (config.steps > training.config.steps) same_steps.steps = training.config.steps;
  require_same(path, "training configuration, or more steps", to_json(training.config),
               to_json(same_steps));
  if (checkpoint.task != task) {
    throw InputError(
        fmt::format("resume from {}: expected the same task (classes, tokeniser, "
                    "length), got another one",
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
  Run(models::SequenceEncoder model, const TaskInfo& task, const data::SequenceDataset& train,
      const data::SequenceDataset& validation, const TrainOptions& options, TrainingState& state)
      : model_(std::move(model)),
        task_(task),
        train_(train),
        config_(state.config),
        options_(options),
        state_(state),
        progress_(state.progress),
        last_(options.output / "last.safetensors"),
        best_(options.output / "best.safetensors"),
        loader_(
            train,
            {.batch_size = config_.batch_size, .seed = config_.seed, .workers = options.workers}),
        validation_loader_(
            validation,
            {.batch_size = config_.batch_size, .shuffle = false, .workers = options.workers}),
        optimizer_(make_optimizer(*model_, config_)),
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
    log_.emplace(options_.output / "metrics.jsonl", resume ? progress_.step : -1);
    saved_step_ = progress_.step;
    loader_.start_epoch(progress_.epoch, progress_.batch);
  }

  bool due(std::int64_t every) const { return every > 0 && progress_.step % every == 0; }

  void event(const std::string& message) const {
    if (options_.on_event) options_.on_event(message);
  }

  data::Batch next_batch() {
    std::optional<data::Batch> batch = loader_.next();
    if (!batch) {
      ++progress_.epoch;
      progress_.batch = 0;
      loader_.start_epoch(progress_.epoch);
      batch = loader_.next();
    }
    ++progress_.batch;
    return *std::move(batch);
  }

  /// The batch about to be taken is the first of an epoch after the first.
  bool at_epoch_due() const {
    const bool ended = progress_.batch == loader_.batches_per_epoch();
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
        model_, learning_batch(train_, config_.learning_sequences, config_.seed, progress_.step),
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

  void step(const data::Batch& batch) {
    const auto start = std::chrono::steady_clock::now();
    const double rate = learning_rate_at(config_, progress_.step);
    for (auto& group : optimizer_.param_groups()) group.options().set_lr(rate);
    optimizer_.zero_grad();
    const torch::Tensor logits = model_->forward(batch.inputs, batch.mask);
    const torch::Tensor loss = torch::nn::functional::cross_entropy(
        logits, batch.labels,
        torch::nn::functional::CrossEntropyFuncOptions().label_smoothing(config_.label_smoothing));
    const double loss_value = loss.item<double>();
    if (!std::isfinite(loss_value)) fail_non_finite("loss", loss_value);
    loss.backward();
    const double norm = torch::nn::utils::clip_grad_norm_(
        model_->parameters(),
        config_.clip_norm > 0 ? config_.clip_norm : std::numeric_limits<double>::infinity());
    if (!std::isfinite(norm)) fail_non_finite("gradient norm", norm);
    optimizer_.step();
    ++progress_.step;

    const auto correct = logits.argmax(-1).eq(batch.labels).sum().item<std::int64_t>();
    const std::int64_t tokens = count_real(batch.mask);
    const double seconds = seconds_since(start);
    ++window_.steps;
    window_.correct += correct;
    window_.examples += batch.labels.size(0);
    window_.tokens += tokens;
    window_.loss += loss_value;
    window_.gradient_norm += norm;
    window_.seconds += seconds;
    show(loss_value, static_cast<double>(correct) / static_cast<double>(batch.labels.size(0)),
         static_cast<double>(tokens), seconds, rate);
  }

  void show(double loss, double accuracy, double tokens, double seconds, double rate) {
    // Exponential means that start as plain ones.
    const double weight = std::max(0.05, 1.0 / static_cast<double>(++shown_));
    const auto smooth = [weight](double& mean, double value) { mean += weight * (value - mean); };
    smooth(smooth_.loss, loss);
    smooth(smooth_.accuracy, accuracy);
    smooth(smooth_tokens_, tokens);
    smooth(smooth_seconds_, seconds);
    smooth_.step = progress_.step;
    smooth_.steps = config_.steps;
    smooth_.epoch = progress_.epoch;
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
    log_->append(
        {{"kind", "train"},
         {"step", progress_.step},
         {"epoch", progress_.epoch},
         {"loss", window_.loss / steps},
         {"accuracy", static_cast<double>(window_.correct) / static_cast<double>(window_.examples)},
         {"learning_rate", learning_rate_at(config_, progress_.step - 1)},
         {"grad_norm", window_.gradient_norm / steps},
         {"tokens_per_s", static_cast<double>(window_.tokens) / window_.seconds},
         {"seconds", seconds()},
         {"peak_memory_mb", peak_memory_mb()}});
    window_ = {};
  }

  void evaluate_model() {
    const Evaluation evaluation = evaluate(model_, validation_loader_);
    if (!std::isfinite(evaluation.loss)) fail_non_finite("validation loss", evaluation.loss);
    log_->append({{"kind", "eval"},
                  {"step", progress_.step},
                  {"epoch", progress_.epoch},
                  {"loss", evaluation.loss},
                  {"accuracy", evaluation.accuracy},
                  {"standard_error", evaluation.standard_error},
                  {"ms_per_sequence", evaluation.ms_per_sequence},
                  {"seconds", seconds()},
                  {"peak_memory_mb", peak_memory_mb()}});
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

  models::SequenceEncoder model_;
  const TaskInfo& task_;
  const data::SequenceDataset& train_;
  const TrainConfig& config_;
  const TrainOptions& options_;
  TrainingState& state_;
  Progress& progress_;
  fs::path last_, best_;
  data::SequenceLoader loader_, validation_loader_;
  torch::optim::AdamW optimizer_;
  at::Generator generator_;
  std::chrono::steady_clock::time_point start_;
  double seconds_before_;
  std::optional<MetricsLog> log_;
  std::int64_t saved_step_ = 0;
  Window window_;
  TrainProgress smooth_;
  double smooth_tokens_ = 0, smooth_seconds_ = 0;
  std::int64_t shown_ = 0;
};

}  // namespace

Trainer::Trainer(models::SequenceEncoder model, TaskInfo task, const data::SequenceDataset& train,
                 const data::SequenceDataset& validation, TrainConfig config, TrainOptions options)
    : model_(std::move(model)),
      task_(std::move(task)),
      train_(train),
      validation_(validation),
      options_(std::move(options)) {
  validate(config);
  require_fit(model_->config(), train);
  require_fit(model_->config(), validation);
  if (options_.resume && options_.overwrite) {
    throw InputError("train: expected either resume or overwrite, got both");
  }
  const std::string data =
      fmt::format("train {}, validation {}", fingerprint(train), fingerprint(validation));
  const fs::path last = options_.output / "last.safetensors";
  if (options_.resume) {
    if (std::error_code ignored; !fs::exists(last, ignored)) {
      throw InputError(
          fmt::format("resume from {}: expected a checkpoint, got no such file", last.string()));
    }
    Checkpoint checkpoint = load_checkpoint(last);
    require_resumable(last, checkpoint, model_, task_, config, data);
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
