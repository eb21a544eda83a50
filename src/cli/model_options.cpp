// Flags to a model's configuration.

#include "model_options.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "command.h"
#include "ecoformer/base/error.h"

namespace ecoformer::cli {

namespace {

/// Whether a flag may come from a file of --dump-config, which names them all: with a configuration
/// file, and given the value it has anyway.
bool may_be_dumped(const CLI::App& command, const CLI::Option& option) {
  const CLI::Option* const config = command.get_option_no_throw("--config");
  if (config == nullptr || config->count() == 0) return false;
  const std::vector<std::string>& given = option.results();
  return given.size() == 1 && (given[0] == option.get_default_str() || given[0] == "false");
}

}  // namespace

void add_eco_options(CLI::App& command, ModelOptions& options) {
  nn::AttentionOptions& attention = options.config.attention;
  const std::string group = "EcoFormer attention";
  command
      .add_option("--projection", options.projection,
                  "Queries and keys: untied, or tied as in the paper")
      ->check(CLI::IsMember({"untied", "tied"}))
      ->group(group);
  command.add_option("--semantics", options.semantics, "Weight of a pair by its Hamming distance")
      ->check(CLI::IsMember({"paper", "official", "exponential"}))
      ->group(group);
  command
      .add_option("--bandwidth", options.bandwidth,
                  "Kernel bandwidth: kept from learning, or of each input")
      ->check(CLI::IsMember({"frozen", "per_input"}))
      ->group(group);
  command.add_option("--bits", attention.bits, "Hash bits b, 1 to 64")->group(group);
  command.add_option("--supports", attention.supports, "Supports m of a hash function")
      ->group(group);
  command.add_option("--group-bits", attention.group_bits, "Bits of a table's index, 4 or 8")
      ->group(group);
}

void add_model_options(CLI::App& command, ModelOptions& options,
                       const std::vector<std::string>& models) {
  const std::string group = "Model";
  command.add_option("--model", options.model, "Architecture")->check(one_of(models))->group(group);
  command.add_option("--width", options.config.width, "Channels of a token")->group(group);
  command.add_option("--layers", options.config.layers, "Encoder blocks")->group(group);
  command.add_option("--heads", options.config.heads, "Attention heads; the width is a multiple")
      ->group(group);
  command.add_option("--mlp-width", options.config.mlp_width, "Hidden channels of a block's MLP")
      ->group(group);
  command
      .add_option("--head-width", options.config.head_width, "Hidden channels of the classifier")
      ->group(group);
  add_eco_options(command, options);
}

models::SequenceEncoderConfig config_of(const ModelOptions& options) {
  models::SequenceEncoderConfig config = options.config;
  config.projection = nn::projection_from_string(options.projection);
  config.attention.semantics = nn::semantics_from_string(options.semantics);
  config.attention.bandwidth = nn::bandwidth_from_string(options.bandwidth);
  models::validate(config);
  return config;
}

models::Architecture architecture_of(const ModelOptions& options) {
  const models::SequenceEncoderConfig config = config_of(options);
  if (options.model == kSequenceEncoder) return {kSequenceEncoder, to_json(config)};
  models::Architecture architecture = models::named_architecture(options.model);
  set_attention(architecture, config.attention, config.projection);
  architecture.config["drop_path"] = options.drop_path;
  return architecture;
}

void refuse_foreign_flags(const CLI::App& command, const std::string& model) {
  const bool sequences = model == kSequenceEncoder;
  const std::vector<std::string> of_vision{"--drop-path", "--image-size", "--crop",   "--strict",
                                           "--augment",   "--mix",        "--repeats"};
  const std::vector<std::string> of_sequences{
      "--width",      "--layers",    "--heads",      "--mlp-width",  "--head-width", "--dropout",
      "--vocabulary", "--positions", "--max-length", "--mask-black", "--tokens"};
  for (const std::string& flag : sequences ? of_vision : of_sequences) {
    const CLI::Option* const option = command.get_option_no_throw(flag);
    if (option != nullptr && option->count() > 0 && !may_be_dumped(command, *option)) {
      throw InputError(
          fmt::format("{}: expected no {} for model {}", command.get_name(), flag, model));
    }
  }
}

}  // namespace ecoformer::cli
