// The program: global flags, dispatch to a command, and the one place where errors become exit
// codes.

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/utils.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "command.h"
#include "ecoformer/base/error.h"
#include "ecoformer/kernels/targets.h"
#include "progress.h"

namespace ecoformer::cli {
namespace {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

/// Flags that every command takes.
struct Globals {
  int threads = 0;
  std::string isa = "auto";
};

void apply(const Globals& globals) {
  if (globals.threads > 0) torch::set_num_threads(globals.threads);
  if (!kernels::force_target(globals.isa)) {
    throw InputError(
        fmt::format("--isa: expected auto or an instruction set of this machine ({}), got '{}'",
                    fmt::join(kernels::available_targets(), ", "), globals.isa));
  }
}

int fail(int code, const std::string& message) {
  log_line((stderr_has_colour() ? "\033[1;31merror:\033[0m " : "error: ") + message);
  return code;
}

/// c10's own text begins with the message; what follows are its frames.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

int run(int argc, char** argv) {
  CLI::App app("EcoFormer: transformers whose attention is linear in the number of tokens",
               "ecoformer");
  Globals globals;
  app.set_version_flag("--version", "ecoformer " ECO_VERSION, "Print the version and exit");
  app.option_defaults()->always_capture_default();
  app.fallthrough();
  app.add_option("--threads", globals.threads, "Threads to compute with; 0 for one a core")
      ->check(CLI::Range(0, 4096));
  app.add_option("--isa", globals.isa,
                 "Instruction set of the kernels, or auto for the best there is")
      ->envname("ECO_FORCE_ISA");
  app.footer(
      "Every command takes --threads and --isa too. Results go to stdout, logs to stderr. Exit "
      "code: 0, "
      "1 (failed at run time), 2 (bad input).");
  app.require_subcommand(1);
  app.parse_complete_callback([&globals] { apply(globals); });
  add_train(app);
  add_convert(app);
  add_evaluate(app);
  add_predict(app);
  add_energy(app);
  add_bench(app);
  add_data(app);
  add_attend(app);
  add_explain(app);
  add_inspect(app);

  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version, std::cout, std::cerr);
  } catch (const CLI::ParseError& error) {
    std::string command = "ecoformer";
    for (const CLI::App* sub : app.get_subcommands()) command += ' ' + sub->get_name();
    // CLI11 would only say that there is no command.
    const std::vector<std::string> rest = app.remaining();
    const std::string reason = app.get_subcommands().empty() && !rest.empty()
                                   ? fmt::format("expected a command, got '{}'", rest.front())
                                   : error.what();
    return fail(kBadInput, fmt::format("{}\nhint: {} --help", reason, command));
  }
}

}  // namespace
}  // namespace ecoformer::cli

int main(int argc, char** argv) {
  using namespace ecoformer::cli;  // NOLINT(google-build-using-namespace): the program's own
  try {
    return run(argc, argv);
  } catch (const ecoformer::InputError& error) {
    return fail(kBadInput, error.what());
  } catch (const c10::Error& error) {
    return fail(kFailed, first_line(error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    return fail(kFailed, "expected enough memory, got none");
  } catch (const std::exception& error) {
    return fail(kFailed, error.what());
  }
}
