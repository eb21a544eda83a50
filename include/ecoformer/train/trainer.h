// Training a model from a configuration, with checkpoints, a log, and exact resuming.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "ecoformer/models/classifier.h"
#include "ecoformer/train/checkpoint.h"
#include "ecoformer/train/evaluate.h"
#include "ecoformer/train/examples.h"
#include "ecoformer/train/train_config.h"

namespace ecoformer::train {

/// What there is to show after a step.
struct TrainProgress {
  std::int64_t step = 0;
  std::int64_t steps = 0;
  std::int64_t epoch = 0;
  double loss = 0;      ///< smoothed over about the last 20 steps
  double accuracy = 0;  ///< of the training batches, smoothed alike
  double examples_per_s = 0;
  double tokens_per_s = 0;  ///< real ones of sequences; 0 for images
  double seconds_left = 0;
  double learning_rate = 0;
};

/// The file of a run's folder that holds TrainOptions::flags.
inline constexpr const char* kFlagsFile = "train.toml";

/// What a run needs beside its configuration and has no influence on its result.
struct TrainOptions {
  /// Gets `last.safetensors`, `best.safetensors` (highest validation accuracy) and `metrics.jsonl`.
  std::filesystem::path output;
  bool resume = false;       ///< go on from the folder's last checkpoint
  bool overwrite = false;    ///< replace the run the folder holds
  std::int64_t workers = 2;  ///< threads that prepare batches
  std::string flags{};       ///< how the run was started; kept in kFlagsFile, if not empty

  std::function<void(const TrainProgress&)> on_progress{};     ///< after each step
  std::function<void(const std::string& message)> on_event{};  ///< evaluated, saved, learned
  std::function<bool()> stop_requested{};  ///< asked before each step; true: save and return
};

enum class TrainStatus { kFinished, kStopped };

struct TrainResult {
  TrainStatus status = TrainStatus::kFinished;
  std::int64_t step = 0;
  double best_accuracy = -1;  ///< -1 if nothing was evaluated yet
  std::int64_t best_step = 0;
};

/// Trains a classifier with AdamW on cross-entropy. On the CPU a run that was stopped and
/// resumed gives the same bits as one that was not.
class Trainer {
 public:
  /// The data sets must outlive the trainer. With `resume` the weights come from the checkpoint,
  /// and `model` only says what they should fit. Throws InputError, with nothing written: a
  /// configuration out of range, data that does not fit the model, an output folder that holds a
  /// run where neither `resume` nor `overwrite` is set, nothing to resume, or a checkpoint of
  /// another configuration (except for larger `steps`), model, task or data.
  Trainer(std::shared_ptr<models::Classifier> model, TaskInfo task, const Examples& train,
          const Examples& validation, const TrainConfig& config, TrainOptions options);

  /// Trains up to config.steps. Throws Error where files cannot be written, and where the loss, the
  /// gradient or the validation loss is not finite, naming the step and the last good checkpoint.
  /// May be called again after it returned, never after it threw.
  TrainResult run();

  const std::shared_ptr<models::Classifier>& model() const { return model_; }

 private:
  std::shared_ptr<models::Classifier> model_;
  TaskInfo task_;
  const Examples& train_;
  const Examples& validation_;
  TrainOptions options_;
  /// Where the run stands; without a generator: before its start.
  TrainingState state_;
};

}  // namespace ecoformer::train
