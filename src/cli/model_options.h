// The flags that describe a model, shared by the commands that build or count one.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "ecoformer/models/sequence_encoder.h"

namespace ecoformer::cli {

/// What the flags bind to; names of enumerations as text until `config_of` reads them.
struct ModelOptions {
  std::string model = "sequence_encoder";
  models::SequenceEncoderConfig config{};
  std::string projection = to_string(config.projection);
  std::string semantics = to_string(config.attention.semantics);
  std::string bandwidth = to_string(config.attention.bandwidth);
};

/// Adds `--model`, one of `models`, and the shape of the sequence encoder and of EcoFormer
/// attention; not what follows from the data, nor `--attention`, which not every command takes as
/// one name.
void add_model_options(CLI::App& command, ModelOptions& options,
                       const std::vector<std::string>& models = {"sequence_encoder"});

/// Adds `--projection`, `--semantics`, `--bandwidth`, `--bits`, `--supports`, `--group-bits` alone.
void add_eco_options(CLI::App& command, ModelOptions& options);

/// The configuration the flags describe. Throws InputError where a value does not fit.
models::SequenceEncoderConfig config_of(const ModelOptions& options);

}  // namespace ecoformer::cli
