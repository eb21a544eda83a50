// `--data`: where examples come from, and how the model's tokeniser reads them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "ecoformer/data/dataset.h"
#include "ecoformer/train/checkpoint.h"

namespace ecoformer::cli {

struct DataOptions {
  std::string source;           ///< listops:FOLDER, text:FOLDER or pathfinder:FOLDER
  std::int64_t max_length = 0;  ///< 0: the task's own, 2000, 4000 and the pixels of an image
  bool mask_black = false;      ///< data::PixelCoding::kMaskBlack
};

/// A task's examples with the description that a checkpoint carries.
struct Task {
  train::TaskInfo info;
  data::SequenceSplits splits;
};

/// Adds `--data`.
void add_data_option(CLI::App& command, DataOptions& options);

/// Adds `--max-length` and `--mask-black`, for commands that start a new model; a trained one has
/// its own.
void add_coding_options(CLI::App& command, DataOptions& options);

/// Reads the examples that `--data` names. Throws InputError for a missing or unknown source and
/// for whatever is wrong with the files.
Task load_task(const DataOptions& options);

/// The same for a trained model: with its length, and only if tokeniser and classes are the
/// model's.
Task load_task_for(const train::TaskInfo& model, DataOptions options);

/// One text as the model's tokens. Throws InputError where the tokeniser does not know what it
/// reads, or the text is empty or, for ListOps and pixels, too long; longer bytes are cut. For a
/// model of pixels the text is the content of a PNG file.
std::vector<std::int32_t> tokenise(const train::TaskInfo& model, const std::string& text);

}  // namespace ecoformer::cli
