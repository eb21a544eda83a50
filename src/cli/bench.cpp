// `bench`: what the operators cost on this machine, ours beside softmax, over the length.

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/operators.h"
#include "bench_model.h"
#include "command.h"
#include "ecoformer/base/error.h"
#include "ecoformer/kernels/targets.h"
#include "hash_precision.h"
#include "plot.h"
#include "progress.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::vector<std::int64_t> tokens;
  std::vector<std::string> attention = bench::operator_names();
  bench::OperatorShape shape;
  double seconds = 5;
  std::string plot;
  Format format = Format::kTable;
};

/// name -> a figure for every length.
using Curves = std::map<std::string, std::vector<double>>;

nlohmann::ordered_json row_of(const bench::OperatorShape& shape, const bench::Measurement& m) {
  const double seconds = m.timing.median;
  return {{"tokens", shape.tokens},
          {"dim", shape.dim},
          {"heads", shape.heads},
          {"threads", at::get_num_threads()},
          {"isa", kernels::active_target()},
          {"hash_precision", to_string(shape.hash_precision)},
          {"name", m.name},
          {"latency_ms", 1e3 * seconds},
          {"spread", m.timing.spread},
          {"ns_per_token_head", 1e9 * seconds / static_cast<double>(shape.tokens * shape.heads)},
          {"extra_memory_mb", static_cast<double>(m.extra_bytes) / 1e6}};
}

/// Adds how many times faster than the contender `yardstick` each is, null if that did not run.
void add_ratios(std::vector<nlohmann::ordered_json>& rows, const std::string& key,
                const std::string& yardstick) {
  const auto found = std::find_if(rows.begin(), rows.end(),
                                  [&](const auto& row) { return row["name"] == yardstick; });
  const nlohmann::ordered_json base =
      found == rows.end() ? nlohmann::ordered_json() : (*found)["latency_ms"];
  for (auto& row : rows) {
    row[key] = nullptr;
    if (!base.is_null()) row[key] = base.get<double>() / row["latency_ms"].get<double>();
  }
}

void run_operators(const Options& options, bench::Pass pass) {
  if (!options.plot.empty()) check_writable_file("--plot", options.plot);
  std::vector<std::int64_t> lengths = options.tokens;
  std::sort(lengths.begin(), lengths.end());
  Report report;
  Curves nanoseconds;
  Curves speedups;
  for (const std::int64_t tokens : lengths) {
    log_line(fmt::format("measuring {} tokens", tokens));
    bench::OperatorShape shape = options.shape;
    shape.tokens = tokens;
    std::vector<nlohmann::ordered_json> rows;
    for (const auto& m :
         bench::measure_operators(shape, pass, options.attention, options.seconds)) {
      rows.push_back(row_of(shape, m));
    }
    add_ratios(rows, "speedup", "softmax");
    add_ratios(rows, "speedup_over_libtorch_official", "libtorch official");
    if (shape.hash_precision == kernels::Precision::kBfloat16) {
      log_line(fmt::format("bfloat16 changes {:.2f} % of the bits of the codes",
                           100 * bench::share_changed_by_bfloat16(shape)));
    }
    for (auto& row : rows) {
      const std::string name = row["name"];
      nanoseconds[name].push_back(row["ns_per_token_head"]);
      if (!row["speedup"].is_null()) speedups[name].push_back(row["speedup"]);
      report.add(std::move(row));
    }
  }
  report.print(options.format);
  for (const auto& [name, ratio] : speedups) {
    if (name == "softmax") continue;
    const double length = bench::crossover(lengths, ratio);
    log_line(length == 0 ? fmt::format("{}: slower than softmax at every length measured", name)
             : length == static_cast<double>(lengths.front())
                 ? fmt::format("{}: faster than softmax from {} tokens or fewer", name, length)
                 : fmt::format("{}: faster than softmax from about {:.0f} tokens", name, length));
  }
  if (options.plot.empty()) return;
  std::vector<Curve> curves;
  for (const std::string& name : options.attention) {
    Curve curve{.title = name, .points = {}};
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      curve.points.emplace_back(static_cast<double>(lengths[i]), nanoseconds[name][i]);
    }
    curves.push_back(std::move(curve));
  }
  plot_log_log(options.plot, "tokens", "nanoseconds a token and head", curves);
}

void run_hash_learning(const Options& options) {
  Report report;
  for (const std::int64_t tokens : options.tokens) {
    log_line(fmt::format("measuring {} tokens", tokens));
    bench::OperatorShape shape = options.shape;
    shape.tokens = tokens;
    std::vector<nlohmann::ordered_json> rows;
    for (const auto& m : bench::measure_hash_learning(shape, options.seconds)) {
      rows.push_back(row_of(shape, m));
    }
    add_ratios(rows, "speedup", "official");
    for (auto& row : rows) report.add(std::move(row));
  }
  report.print(options.format);
}

CLI::App* add_measurement(CLI::App& bench, Options& options, const std::string& name,
                          const std::string& description, std::int64_t fewest_tokens) {
  CLI::App* command = bench.add_subcommand(name, description);
  command->add_option("--tokens", options.tokens, "Sequence lengths, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(fewest_tokens, std::int64_t{1} << 24));
  const auto count = [&](const char* flag, std::int64_t& value, const char* text, int most) {
    command->add_option(flag, value, text)->check(CLI::Range(1, most));
  };
  count("--heads", options.shape.heads, "Heads", 4096);
  count("--dim", options.shape.dim, "Channels a head", 4096);
  count("--bits", options.shape.bits, "Hash bits b", 64);
  count("--supports", options.shape.supports, "Supports m of a hash function", 256);
  command->add_option("--group-bits", options.shape.group_bits, "Bits of a table's index")
      ->check(CLI::IsMember({4, 8}));
  command->add_option("--seconds", options.seconds, "Time for a length; never fewer than 3 rounds")
      ->check(CLI::Range(0.0, 1e6));
  add_format_option(*command, options.format);
  return command;
}

void add_operators(CLI::App& bench, const std::string& name, const std::string& description,
                   bench::Pass pass) {
  auto options = std::make_shared<Options>();
  options->tokens = {64, 196, 784, 3136, 12544, 65536};
  CLI::App* command = add_measurement(bench, *options, name, description, 1);
  command
      ->add_option("--attention", options->attention,
                   "Contenders, separated by commas; speedup is over softmax")
      ->delimiter(',')
      ->check(one_of(bench::operator_names()));
  if (pass == bench::Pass::kForward) {
    add_hash_precision_option(*command, options->shape.hash_precision);
  }
  command->add_option("--plot", options->plot, "SVG file for a log-log plot, drawn by gnuplot");
  command->callback([options, pass] { run_operators(*options, pass); });
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand(
      "bench", "Time operators and models on random inputs, interleaved in one process");
  bench->require_subcommand(1);
  add_operators(*bench, "attention", "Forward pass, against softmax and the authors' operations",
                bench::Pass::kForward);
  add_operators(*bench, "training", "Forward and backward pass, against the same",
                bench::Pass::kTraining);
  auto options = std::make_shared<Options>();
  options->tokens = {196, 784, 3136};
  add_measurement(*bench, *options, "hash-learning",
                  "Learning a hash function, against the authors' dense formulation", 64)
      ->callback([options] { run_hash_learning(*options); });
  add_bench_model(*bench);
}

}  // namespace ecoformer::cli
