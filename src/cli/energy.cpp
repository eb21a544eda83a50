// `energy`: operations, energy and area of models, dense against EcoFormer; no weights needed.

#include "ecoformer/energy/energy.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "command.h"
#include "ecoformer/models/architecture.h"
#include "ecoformer/models/pyramid.h"
#include "model_options.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

constexpr const char* kAll = "all";

struct Options {
  ModelOptions model;
  std::vector<std::string> attention{};  ///< empty: every one that is counted
  std::vector<std::string> counting{"published", "counted"};
  std::vector<std::int64_t> tokens{1000};
  std::vector<std::int64_t> image_sizes{224};
  Format format = Format::kTable;
};

/// The mechanism's name in configurations; the paper calls `eco` by the name of its models.
std::string mechanism_of(const std::string& attention) {
  return attention == "ecoformer" ? "eco" : attention;
}

bool is_given(const CLI::App& command, const std::string& flag) {
  return command.get_option(flag)->count() > 0;
}

/// Adds a row for each wanted counting; `size` is what the input's size is called, and its value.
void add_rows(const Options& options, const std::string& model,
              const models::Architecture& architecture, models::MapSize input,
              const std::pair<const char*, std::int64_t>& size, Report& report) {
  for (const energy::Counting counting :
       {energy::Counting::kPublished, energy::Counting::kCounted}) {
    const auto& wanted = options.counting;
    if (std::find(wanted.begin(), wanted.end(), to_string(counting)) == wanted.end()) continue;
    const energy::Row row = energy::count(architecture, input, counting);
    report.add(
        {{"model", model},
         {"attention", row.attention},
         {"counting", to_string(row.counting)},
         {size.first, size.second},
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

void report_sequences(const Options& options, Report& report) {
  models::SequenceEncoderConfig config = config_of(options.model);
  // Positions cost one addition each whatever their number, so the report is not limited by them.
  config.positions =
      std::max(config.positions, *std::max_element(options.tokens.begin(), options.tokens.end()));
  for (const std::int64_t tokens : options.tokens) {
    for (const std::string& attention : options.attention) {
      config.attention.mechanism = mechanism_of(attention);
      add_rows(options, kSequenceEncoder, {kSequenceEncoder, to_json(config)}, {1, tokens},
               {"tokens", tokens}, report);
    }
  }
}

void report_images(const Options& options, const CLI::App& command, Report& report) {
  const std::vector<std::string> names = options.model.model == kAll
                                             ? models::architecture_names()
                                             : std::vector<std::string>{options.model.model};
  ModelOptions paper = options.model;
  const auto flag_or = [&](const char* flag, std::string& value, const char* otherwise) {
    if (!is_given(command, flag)) value = otherwise;
  };
  // The paper's models, unless flags say otherwise.
  flag_or("--semantics", paper.semantics, "official");
  flag_or("--bandwidth", paper.bandwidth, "per_input");
  for (const std::string& name : names) {
    paper.model = name;
    for (const std::int64_t size : options.image_sizes) {
      for (const std::string& attention : options.attention) {
        paper.config.attention.mechanism = mechanism_of(attention);
        flag_or("--projection", paper.projection,
                paper.config.attention.mechanism == "eco" ? "tied" : "untied");
        add_rows(options, name, architecture_of(paper), {size, size}, {"image_size", size}, report);
      }
    }
  }
}

void run(Options options, const CLI::App& command) {
  Report report;
  if (options.model.model == kSequenceEncoder) {
    refuse_foreign_flags(command, kSequenceEncoder);
    if (options.attention.empty()) options.attention = {"softmax", "eco"};
    report_sequences(options, report);
  } else {
    refuse_foreign_flags(command, options.model.model);
    if (options.attention.empty()) {
      options.attention = {models::kOriginalAttention, "softmax", "eco"};
    }
    report_images(options, command, report);
  }
  report.print(options.format);
}

}  // namespace

void add_energy(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "energy",
      "Operations, energy and area of a model for one sequence or image, without weights.\n"
      "Vision models are counted as the paper has them (EcoFormer with projection tied, semantics "
      "official, bandwidth per_input) unless these flags are given.");
  std::vector<std::string> names = models::architecture_names();
  names.insert(names.begin(), kSequenceEncoder);
  names.emplace_back(kAll);
  add_model_options(*command, options->model, names);
  std::vector<std::string> mechanisms = nn::attention_mechanisms();
  mechanisms.insert(mechanisms.begin(), models::kOriginalAttention);
  mechanisms.emplace_back("ecoformer");
  command
      ->add_option("--attention", options->attention,
                   "Attention mechanisms, separated by commas; all by default; ecoformer is eco "
                   "by the paper's name")
      ->delimiter(',')
      ->check(one_of(mechanisms));
  command->add_option("--tokens", options->tokens, "Sequence lengths, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24));
  command
      ->add_option("--image-size", options->image_sizes,
                   "Sides of square images in pixels, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 14));
  command
      ->add_option(
          "--counting", options->counting,
          "published: the authors' formula; counted: what the kernels do, with exponentials "
          "charged as 6 multiplications and 9 additions, divisions as a multiplication")
      ->delimiter(',')
      ->check(CLI::IsMember({"published", "counted"}));
  add_format_option(*command, options->format);
  command->callback([options, command] { run(*options, *command); });
}

}  // namespace ecoformer::cli
