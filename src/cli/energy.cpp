// `energy`: operations, energy and area of a model, dense against EcoFormer; no weights needed.

#include "ecoformer/energy/energy.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "model_options.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> attention{"softmax", "eco"};
  std::vector<std::string> counting{"published", "counted"};
  std::vector<std::int64_t> tokens{1000};
  Format format = Format::kTable;
};

void run(const Options& options) {
  models::SequenceEncoderConfig config = config_of(options.model);
  // Positions cost one addition each whatever their number, so the report is not limited by them.
  config.positions =
      std::max(config.positions, *std::max_element(options.tokens.begin(), options.tokens.end()));
  Report report;
  for (const std::int64_t tokens : options.tokens) {
    for (const std::string& attention : options.attention) {
      config.attention.mechanism = attention;
      for (const energy::Counting counting :
           {energy::Counting::kPublished, energy::Counting::kCounted}) {
        const auto& wanted = options.counting;
        if (std::find(wanted.begin(), wanted.end(), to_string(counting)) == wanted.end()) continue;
        const energy::Row row = energy::count(config, tokens, counting);
        report.add(
            {{"model", row.model},
             {"attention", row.attention},
             {"counting", to_string(row.counting)},
             {"tokens", row.tokens},
             {"multiplications", row.operations.multiplications},
             {"additions", row.operations.additions},
             {"exponentials", row.operations.exponentials},
             {"divisions", row.operations.divisions},
             {"energy_mj", energy_mj(row.operations)},
             {"area_mm2", area_mm2(row.operations)},
             {"attention_energy_mj", energy_mj(row.attention_operations)},
             {"attention_share", energy_mj(row.attention_operations) / energy_mj(row.operations)}});
      }
    }
  }
  report.print(options.format);
}

}  // namespace

void add_energy(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "energy", "Operations, energy and area of a model for one sequence, without weights");
  add_model_options(*command, options->model);
  command
      ->add_option("--attention", options->attention, "Attention mechanisms, separated by commas")
      ->delimiter(',')
      ->check(one_of(nn::attention_mechanisms()));
  command->add_option("--tokens", options->tokens, "Sequence lengths, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24));
  command
      ->add_option(
          "--counting", options->counting,
          "published: the authors' formula; counted: what the kernels do, with exponentials "
          "charged as 6 multiplications and 9 additions, divisions as a multiplication")
      ->delimiter(',')
      ->check(CLI::IsMember({"published", "counted"}));
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
