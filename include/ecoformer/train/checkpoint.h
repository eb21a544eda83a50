// One safetensors file that holds a model, what it is for, and where its training stands.
//
// Tensors: the model's under its own state names,
// `optimizer.<parameter>.{exp_avg,exp_avg_sq,step}`, `ema.<parameter>`, `generator.state`.
// Metadata: `format`, and as JSON `model`, `task`, `train`, `progress`. A file without training
// state is a complete checkpoint for all but resuming.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ecoformer/data/image_transforms.h"
#include "ecoformer/models/classifier.h"
#include "ecoformer/train/train_config.h"

namespace ecoformer::train {

/// How a model's input is made and its output is read.
struct TaskInfo {
  std::vector<std::string> class_names = {};
  std::string tokeniser = {};   ///< "listops", "bytes", "pixels", "masked_pixels", or "image": none
  std::int64_t max_length = 0;  ///< tokens; longer input is cut or refused; 0 for images
  std::int64_t image_size = 0;  ///< side of the square that the model sees; 0 for sequences
  data::EvaluationCrop crop = data::EvaluationCrop::kAuthors;  ///< of images

  friend bool operator==(const TaskInfo&, const TaskInfo&) = default;
};

/// How far a run has come.
struct Progress {
  std::int64_t step = 0;   ///< updates made
  std::int64_t epoch = 0;  ///< position in the data: next is `batch` of `epoch`
  std::int64_t batch = 0;
  double best_accuracy = -1;  ///< on the validation set; -1 before the first evaluation
  std::int64_t best_step = 0;
  double seconds = 0;  ///< of training and evaluation so far
  std::string data;    ///< fingerprint of training and validation set
};

/// All that resuming needs beside the model.
struct TrainingState {
  TrainConfig config;
  Progress progress;
  std::map<std::string, at::Tensor> optimizer;  ///< by `<parameter>.<name>`
  std::map<std::string, at::Tensor> average;    ///< by parameter, with config.ema_decay
  at::Tensor generator;                         ///< uint8, of the dropout generator
};

struct Checkpoint {
  std::shared_ptr<models::Classifier> model;
  TaskInfo task;
  std::optional<TrainingState> training{};
};

/// Writes the file atomically. Throws Error where that fails.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// Whether a file of tensors says that it is a checkpoint of this library, of this version or
/// another. Throws InputError if it can not be read.
bool is_checkpoint(const std::filesystem::path& path);

/// Reads a whole checkpoint. Throws InputError naming file and reason: unreadable, not a
/// checkpoint, another architecture, tensors missing, unexpected or of a wrong shape.
Checkpoint load_checkpoint(const std::filesystem::path& path);

/// The same without the training state, which is not looked at.
Checkpoint load_model(const std::filesystem::path& path);

}  // namespace ecoformer::train
