// `--data`: where examples come from, and how the model's tokeniser reads them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ecoformer/train/checkpoint.h"
#include "ecoformer/train/examples.h"

namespace ecoformer::cli {

/// `--crop`: that of the model, and of a model without one the authors'.
inline constexpr const char* kModelCrop = "model";

struct DataOptions {
  std::string source;             ///< TASK:FOLDER
  std::int64_t max_length = 0;    ///< 0: the task's own, 2000, 4000 and the pixels of an image
  bool mask_black = false;        ///< data::PixelCoding::kMaskBlack
  std::int64_t image_size = 0;    ///< 0: the task's own, 224, 32 and the images' size
  std::string crop = kModelCrop;  ///< a data::EvaluationCrop
  bool strict = false;            ///< stop at a picture that cannot be read
};

/// A task's examples with the description that a checkpoint carries.
struct Task {
  train::TaskInfo info;
  std::shared_ptr<const train::Examples> train, validation, test;
  /// True where one held-out set serves for both, so that the selected accuracy is optimistic.
  bool validation_is_test = false;
};

/// What a model's inputs are.
enum class InputKind { kSequences, kImages };

/// Adds `--data`.
void add_data_option(CLI::App& command, DataOptions& options);

/// Adds `--max-length` and `--mask-black`, for commands that start a new model; a trained one has
/// its own.
void add_coding_options(CLI::App& command, DataOptions& options);

/// Adds `--image-size` and `--crop`.
void add_view_options(CLI::App& command, std::int64_t& image_size, std::string& crop);

/// Adds `--strict`.
void add_strict_option(CLI::App& command, DataOptions& options);

/// Reads the examples that `--data` names. Throws InputError for a missing or unknown source, one
/// that has no inputs of that kind, and for whatever is wrong with the files.
Task load_task(const DataOptions& options, InputKind kind);

/// Whether data has to have a model's classes, or the model gets those of the data.
enum class Classes { kOfModel, kOfData };

/// The same for a trained model: with its length, and its view where the options have none. Throws
/// InputError also where the tokeniser or, with kOfModel, the classes are not the model's.
Task load_task_for(const train::TaskInfo& model, DataOptions options, Classes classes);

/// The kind of inputs a trained model takes.
InputKind kind_of(const train::TaskInfo& model);

/// One text as the model's tokens. Throws InputError where the tokeniser does not know what it
/// reads, or the text is empty or, for ListOps and pixels, too long; longer bytes are cut. For a
/// model of pixels the text is the content of a PNG file.
std::vector<std::int32_t> tokenise(const train::TaskInfo& model, const std::string& text);

}  // namespace ecoformer::cli
