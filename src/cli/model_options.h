// The flags that describe a model, shared by the commands that build or count one.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "ecoformer/models/architecture.h"
#include "ecoformer/models/sequence_encoder.h"

namespace ecoformer::cli {

inline constexpr const char* kSequenceEncoder = "sequence_encoder";

/// What the flags bind to; names of enumerations as text until `config_of` reads them.
struct ModelOptions {
  std::string model = kSequenceEncoder;
  models::SequenceEncoderConfig config{};  ///< its attention is that of every model
  double drop_path = 0;                    ///< of vision models
  std::string projection = to_string(config.projection);
  std::string semantics = to_string(config.attention.semantics);
  std::string bandwidth = to_string(config.attention.bandwidth);
};

/// Adds `--model`, one of `models`, and the shape of the sequence encoder and of EcoFormer
/// attention; not what follows from the data, nor `--attention`, which not every command takes as
/// one name.
void add_model_options(CLI::App& command, ModelOptions& options,
                       const std::vector<std::string>& models);

/// Adds `--projection`, `--semantics`, `--bandwidth`, `--bits`, `--supports`, `--group-bits` alone.
void add_eco_options(CLI::App& command, ModelOptions& options);

/// The sequence encoder, or the attention of another model, that the flags describe. Throws
/// InputError where a value does not fit.
models::SequenceEncoderConfig config_of(const ModelOptions& options);

/// The model that the flags describe. Throws InputError where a value does not fit.
models::Architecture architecture_of(const ModelOptions& options);

/// Throws InputError naming a flag of `command` that is given, and that `model` does not have: one
/// of vision models for the sequence encoder, one of its own for any other.
void refuse_foreign_flags(const CLI::App& command, const std::string& model);

}  // namespace ecoformer::cli
