// Plots as SVG files, drawn by gnuplot.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace ecoformer::cli {

/// A titled line through points (x, y).
struct Curve {
  std::string title;
  std::vector<std::pair<double, double>> points;
};

/// Draws `curves` over logarithmic axes into `file`. Throws Error if gnuplot is missing or fails.
void plot_log_log(const std::filesystem::path& file, const std::string& x_label,
                  const std::string& y_label, const std::vector<Curve>& curves);

}  // namespace ecoformer::cli
