// Flags to a model's configuration.

#include "model_options.h"

#include "command.h"

namespace ecoformer::cli {

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

}  // namespace ecoformer::cli
