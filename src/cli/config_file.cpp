// Configuration files on top of CLI11's TOML reader.

#include "config_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <string>
#include <vector>

#include "ecoformer/base/error.h"

namespace ecoformer::cli {
namespace {

/// CLI11 reads `true` as 1 where a number is wanted.
bool is_boolean_for_number(const CLI::Option& option, const std::vector<std::string>& values) {
  const std::string type = option.get_type_name();
  const bool number =
      type.rfind("INT", 0) == 0 || type.rfind("UINT", 0) == 0 || type.rfind("FLOAT", 0) == 0;
  return number && values.size() == 1 && (values[0] == "true" || values[0] == "false");
}

}  // namespace

void apply_config_file(CLI::App& command, const std::filesystem::path& path) {
  const std::string file = path.string();
  if (!std::filesystem::is_regular_file(path)) {
    throw InputError(fmt::format("--config: expected a readable file, got '{}'", file));
  }
  std::vector<CLI::ConfigItem> items;
  try {
    items = CLI::ConfigTOML().from_file(file);
  } catch (const CLI::Error& error) {
    throw InputError(fmt::format("{}: expected a TOML file, got: {}", file, error.what()));
  }
  std::set<std::string> seen;
  for (const CLI::ConfigItem& item : items) {
    // CLI11 reports a section as an item named ++.
    const std::string key = item.name == "++" ? "[" + item.parents.back() + "]" : item.fullname();
    CLI::Option* option =
        item.parents.empty() ? command.get_option_no_throw("--" + item.name) : nullptr;
    if (option == nullptr || !option->get_configurable()) {
      throw InputError(
          fmt::format("{}: expected a flag of `{}` as key, got '{}'\nhint: ecoformer {} --help",
                      file, command.get_name(), key, command.get_name()));
    }
    if (!seen.insert(key).second) {
      throw InputError(fmt::format("{}: expected each key once, got '{}' again", file, key));
    }
    if (option->count() > 0) continue;
    try {
      if (is_boolean_for_number(*option, item.inputs)) {
        throw CLI::ConversionError(item.inputs[0], option->get_name());
      }
      option->add_result(item.inputs);
      option->run_callback();
    } catch (const CLI::Error& error) {
      throw InputError(fmt::format("{}: expected '{}' to be {}, got '{}': {}", file, key,
                                   option->get_type_name(), fmt::join(item.inputs, ", "),
                                   error.what()));
    }
  }
}

std::string dump_config(const CLI::App& command) {
  return command.config_to_str(/*default_also=*/true, /*write_description=*/false);
}

std::string given_flags(const CLI::App& command) {
  return command.config_to_str(/*default_also=*/false, /*write_description=*/false);
}

}  // namespace ecoformer::cli
