// `data`: generates a task in the benchmark's own file format.

#include <algorithm>
#include <memory>
#include <string>

#include "command.h"
#include "ecoformer/data/listops.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::string task = "listops";
  std::string output;
  data::ListOpsOptions listops;
  data::ListOpsCounts counts;
  std::uint64_t seed = 0;
  Format format = Format::kTable;
};

nlohmann::ordered_json describe(const std::string& split, const data::SequenceDataset& set) {
  std::size_t shortest = set.examples.empty() ? 0 : set.examples.front().tokens.size();
  std::size_t longest = 0;
  std::size_t total = 0;
  std::vector<std::int64_t> of_class(set.class_names.size());
  for (const data::Example& example : set.examples) {
    shortest = std::min(shortest, example.tokens.size());
    longest = std::max(longest, example.tokens.size());
    total += example.tokens.size();
    ++of_class.at(static_cast<std::size_t>(example.label));
  }
  const double count = std::max<double>(1, static_cast<double>(set.examples.size()));
  return {{"split", split},
          {"examples", set.examples.size()},
          {"tokens_min", shortest},
          {"tokens_mean", static_cast<double>(total) / count},
          {"tokens_max", longest},
          {"majority_share",
           static_cast<double>(*std::max_element(of_class.begin(), of_class.end())) / count}};
}

void run(const Options& options) {
  check_writable_folder("--output", options.output);
  const data::SequenceSplits splits =
      data::generate_listops(options.listops, options.counts, options.seed);
  data::write_listops(options.output, splits);
  Report report;
  report.add(describe("train", splits.train));
  report.add(describe("validation", splits.validation));
  report.add(describe("test", splits.test));
  report.print(options.format);
}

}  // namespace

void add_data(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("data", "Generate ListOps as the benchmark's own TSV files");
  command->add_option("--task", options->task, "What to generate")
      ->check(CLI::IsMember({"listops"}));
  command->add_option("--output", options->output, "Folder for basic_{train,val,test}.tsv")
      ->required();
  command->add_option("--train", options->counts.train, "Training examples");
  command->add_option("--validation", options->counts.validation, "Validation examples");
  command->add_option("--test", options->counts.test, "Test examples");
  command->add_option("--min-length", options->listops.min_length,
                      "Expressions are longer than this");
  command->add_option("--max-length", options->listops.max_length,
                      "Expressions are shorter than this");
  command->add_option("--max-depth", options->listops.max_depth, "Depth of the deepest digit");
  command->add_option("--max-args", options->listops.max_args, "Most arguments of an operator");
  command->add_option("--seed", options->seed, "Seed of the generator");
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
