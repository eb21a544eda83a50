// What the commands share: how each joins the program, and checks of flags and paths.
#pragma once

#include <ATen/core/Tensor.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "ecoformer/io/safetensors.h"

namespace ecoformer::cli {

/// Each adds one subcommand to `app`, whose callback does the work when the command line names it.
void add_train(CLI::App& app);
void add_convert(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_predict(CLI::App& app);
void add_energy(CLI::App& app);
void add_bench(CLI::App& app);
void add_data(CLI::App& app);
void add_attend(CLI::App& app);
void add_explain(CLI::App& app);
void add_inspect(CLI::App& app);

/// A validator for flags that name one of `names`.
CLI::IsMember one_of(std::vector<std::string> names);

/// Throws Error unless a file can be created at `path` (folder there and writable), so that no work
/// is done for nothing. Leaves no trace and an existing file as it is. `flag` is named in the
/// message.
void check_writable_file(const std::string& flag, const std::filesystem::path& path);

/// Throws Error unless the folder `path` is writable or could be created. Does not create it.
void check_writable_folder(const std::string& flag, const std::filesystem::path& path);

/// Throws InputError if the flag's `value` is empty. For flags that a configuration file may give,
/// which CLI11 would find missing before the file is read.
void require(const std::string& flag, const std::string& value);

/// Throws InputError naming file, tensor and index of the first value that is NaN or infinite.
void check_finite(const io::TensorFile& file, const std::string& name, const at::Tensor& tensor);

/// "[2, 3]".
std::string shape_text(at::IntArrayRef shape);

}  // namespace ecoformer::cli
