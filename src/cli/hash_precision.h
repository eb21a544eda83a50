// `--hash-precision`: the numbers that codes are made of, where a machine has a choice.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "ecoformer/kernels/encode.h"
#include "ecoformer/models/classifier.h"

namespace ecoformer::cli {

/// float32 or bfloat16.
std::string to_string(kernels::Precision precision);

/// Adds `--hash-precision`.
void add_hash_precision_option(CLI::App& command, kernels::Precision& precision);

/// Sets it for all hash functions of a model. Throws InputError where this machine lacks it.
void set_hash_precision(models::Classifier& model, kernels::Precision precision);

}  // namespace ecoformer::cli
