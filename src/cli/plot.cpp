// gnuplot reads a script with its data inside and writes the picture to a pipe.

#include "plot.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "ecoformer/base/atomic_file.h"
#include "ecoformer/base/error.h"

namespace ecoformer::cli {
namespace {

std::string script_of(const std::string& x_label, const std::string& y_label,
                      const std::vector<Curve>& curves) {
  std::string script = fmt::format(
      "set terminal svg size 720,480 background 'white'\n"
      "set logscale xy\nset grid\nset key top left\nset xlabel '{}'\nset ylabel '{}'\n",
      x_label, y_label);
  std::string data;
  for (std::size_t i = 0; i < curves.size(); ++i) {
    script += fmt::format("{} '-' with linespoints pt 7 ps 0.5 title '{}'", i == 0 ? "plot" : ",",
                          curves[i].title);
    for (const auto& [x, y] : curves[i].points) data += fmt::format("{} {}\n", x, y);
    data += "e\n";
  }
  return script + "\n" + data;
}

/// What `command` printed. Throws Error if it failed.
std::string output_of(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) {
    throw Error(fmt::format("plot: expected to start '{}', got '{}'", command,
                            std::generic_category().message(errno)));
  }
  std::string output;
  std::array<char, 4096> block{};
  for (std::size_t read = 0; (read = fread(block.data(), 1, block.size(), pipe)) > 0;) {
    output.append(block.data(), read);
  }
  if (pclose(pipe) != 0) {
    throw Error("plot: expected gnuplot to draw, got a failure\nhint: install gnuplot");
  }
  return output;
}

}  // namespace

void plot_log_log(const std::filesystem::path& file, const std::string& x_label,
                  const std::string& y_label, const std::vector<Curve>& curves) {
  std::string folder = (std::filesystem::temp_directory_path() / "ecoformer-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    throw Error(fmt::format("plot: expected a temporary folder, got '{}'",
                            std::generic_category().message(errno)));
  }
  const std::filesystem::path script = std::filesystem::path(folder) / "plot.gnuplot";
  struct Removal {
    std::filesystem::path folder;
    ~Removal() {
      std::error_code ignored;
      std::filesystem::remove_all(folder, ignored);
    }
  } const removal{folder};
  write_atomically(script, script_of(x_label, y_label, curves));
  write_atomically(file, output_of("gnuplot '" + script.string() + "'"));
}

}  // namespace ecoformer::cli
