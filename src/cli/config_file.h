// `--config`: a command's flags from a TOML file, strictly.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>

namespace ecoformer::cli {

/// Sets the flags of `command` that the file names and the command line has not set; keys are the
/// flags' names without dashes in front. Throws InputError naming file and key: unreadable file,
/// unknown or repeated key, a section, a value of the wrong type or not allowed.
///
/// CLI11's own `set_config` reads files for the main program alone and, for a subcommand, passes
/// over unknown keys.
void apply_config_file(CLI::App& command, const std::filesystem::path& path);

/// The flags of `command` with their values now, as such a file.
std::string dump_config(const CLI::App& command);

/// Those that the command line or a file has set.
std::string given_flags(const CLI::App& command);

}  // namespace ecoformer::cli
