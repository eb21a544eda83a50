// `data`: generates a task in the benchmark's own file format.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/listops.h"
#include "ecoformer/data/pathfinder.h"
#include "progress.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

/// Tasks, and the groups of flags that belong to one.
constexpr const char* kListOps = "listops";
constexpr const char* kPathfinder = "pathfinder";

struct Options {
  std::string task = kListOps;
  std::string output;
  data::ListOpsOptions listops;
  data::ListOpsCounts counts;
  data::PathfinderOptions pathfinder;
  std::int64_t images = 200'000;
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

void make_listops(const Options& options, Report& report) {
  const data::SequenceSplits splits =
      data::generate_listops(options.listops, options.counts, options.seed);
  data::write_listops(options.output, splits);
  report.add(describe("train", splits.train));
  report.add(describe("validation", splits.validation));
  report.add(describe("test", splits.test));
}

void make_pathfinder(const Options& options, Report& report) {
  Progress progress("data", options.images, 1000);
  const data::PathfinderSummary summary =
      data::write_pathfinder(options.output, options.pathfinder, options.images, options.seed,
                             [&](std::int64_t written) { progress.update(written, "images"); });
  report.add({{"folder", summary.folder.string()},
              {"images", summary.images},
              {"positive_share",
               static_cast<double>(summary.positives) / static_cast<double>(summary.images)},
              {"intensity_mean", summary.mean_intensity},
              {"distractors_mean", summary.distractors}});
}

/// A flag of the other task would change nothing, silently.
void check_flags(const CLI::App& command, const std::string& task) {
  for (const CLI::Option* option : command.get_options()) {
    const std::string& group = option->get_group();
    if (option->count() > 0 && (group == kListOps || group == kPathfinder) && group != task) {
      throw InputError(
          fmt::format("{}: expected --task {}, got --task {}", option->get_name(), group, task));
    }
  }
}

void run(const CLI::App& command, const Options& options) {
  check_flags(command, options.task);
  check_writable_folder("--output", options.output);
  Report report;
  if (options.task == kListOps) {
    make_listops(options, report);
  } else {
    make_pathfinder(options, report);
  }
  report.print(options.format);
}

void add_listops_options(CLI::App& command, Options& options) {
  const auto add = [&](const std::string& name, std::int64_t& value, const std::string& help) {
    command.add_option(name, value, help)->group(kListOps);
  };
  add("--train", options.counts.train, "Training examples");
  add("--validation", options.counts.validation, "Validation examples");
  add("--test", options.counts.test, "Test examples");
  add("--min-length", options.listops.min_length, "Expressions are longer than this");
  add("--max-length", options.listops.max_length, "Expressions are shorter than this");
  add("--max-depth", options.listops.max_depth, "Depth of the deepest digit");
  add("--max-args", options.listops.max_args, "Most arguments of an operator");
}

void add_pathfinder_options(CLI::App& command, Options& options) {
  using Level = data::PathfinderLevel;
  const std::map<std::string, Level> levels{
      {"easy", Level::kEasy}, {"intermediate", Level::kIntermediate}, {"hard", Level::kHard}};
  command.add_option("--size", options.pathfinder.size, "Pixels a side: 32, 64 or 128")
      ->check(CLI::IsMember({32, 64, 128}))
      ->group(kPathfinder);
  command
      .add_option_function<std::string>(
          "--level",
          [&options, levels](const std::string& name) {
            options.pathfinder.level = levels.at(name);
          },
          "Length of the target snakes: easy 6 paddles, intermediate 9, hard 14")
      ->check(CLI::IsMember({"easy", "intermediate", "hard"}))
      ->default_str("hard")
      ->group(kPathfinder);
  command
      .add_option_function<int>(
          "--contour-length",
          [&options](int length) { options.pathfinder.contour_length = length; },
          "Paddles of a target snake, 2 to 14, instead of the level's; short ones are a way into "
          "the task")
      ->excludes("--level")
      ->group(kPathfinder);
  command.add_option("--count", options.images, "Images")->group(kPathfinder);
  command
      .add_option_function<int>(
          "--distractors", [&options](int count) { options.pathfinder.distractors = count; },
          "Distractor snakes to try an image; if not given, the benchmark's number")
      ->group(kPathfinder);
}

}  // namespace

void add_data(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "data", "Generate ListOps or Pathfinder in the benchmark's own file format");
  command->add_option("--task", options->task, "What to generate")
      ->check(CLI::IsMember({kListOps, kPathfinder}));
  command
      ->add_option("--output", options->output,
                   "Folder for basic_{train,val,test}.tsv, or for pathfinder<size>/<level>/")
      ->required();
  add_listops_options(*command, *options);
  add_pathfinder_options(*command, *options);
  command->add_option("--seed", options->seed, "Seed of the generator");
  add_format_option(*command, options->format);
  command->callback([command, options] { run(*command, *options); });
}

}  // namespace ecoformer::cli
