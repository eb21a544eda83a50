// Models from files: checkpoints of this library, and vision models of others.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "data_options.h"
#include "ecoformer/data/image.h"
#include "ecoformer/models/classifier.h"
#include "ecoformer/train/checkpoint.h"

namespace ecoformer::cli {

/// A model, and what it is for where its file says that: files of others do not.
struct OpenedModel {
  std::shared_ptr<models::Classifier> model;
  std::optional<train::TaskInfo> task;
};

/// Adds `--architecture`, the file that `open_model` takes.
void add_architecture_option(CLI::App& command, std::string& architecture);

/// Reads a checkpoint, or a vision model's weights with what the JSON file `architecture` (none if
/// empty) says of it. Throws InputError where the file is neither, or a checkpoint and an
/// architecture are both given.
OpenedModel open_model(const std::string& path, const std::string& architecture);

/// Adds `--dtype`, of the weights in inference.
void add_dtype_option(CLI::App& command, std::string& dtype);

/// Converts a model to what the flag says. Says so on stderr where the machine has no arithmetic of
/// that type, which then is slow.
void set_dtype(models::Classifier& model, const std::string& dtype);

/// What a vision model sees of a picture: the size and crop given, 0 and kModelCrop for the model's
/// own, which for files of others are 224 and the authors'.
data::Image view_of(const OpenedModel& opened, const data::Image& picture, std::int64_t image_size,
                    const std::string& crop);

/// A view as a batch of one: float32 [1, 3, S, S].
torch::Tensor input_of(const data::Image& view);

/// The examples for a model: as `load_task_for` where its file says what it is for, otherwise
/// pictures, viewed as the options say. Throws InputError as that does, and where a model without
/// class names has another number of classes.
Task load_task_for(const OpenedModel& opened, const DataOptions& options,
                   Classes classes = Classes::kOfModel);

}  // namespace ecoformer::cli
