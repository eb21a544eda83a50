// Results for people and programs: rows with the same columns as an aligned table, JSON or CSV.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ecoformer::cli {

/// How a report is printed.
enum class Format { kTable, kJson, kCsv };

/// Adds `--format table|json|csv` to `command`.
void add_format_option(CLI::App& command, Format& format);

/// Rows of flat JSON objects, all with the keys of the first, in its order.
class Report {
 public:
  void add(nlohmann::ordered_json row);

  /// table: columns aligned, numbers to 4 significant digits; json: an array of the rows; csv: RFC
  /// 4180 with LF. Ends in a new line. In table and csv null is an empty field.
  std::string render(Format format) const;

  /// Renders to stdout.
  void print(Format format) const;

 private:
  std::string render_table() const;
  std::string render_csv() const;

  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

}  // namespace ecoformer::cli
