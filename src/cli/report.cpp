// Rendering of reports.

#include "report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "ecoformer/base/error.h"

namespace ecoformer::cli {
namespace {

using Json = nlohmann::ordered_json;

/// The text of one value in a table.
std::string cell(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_float()) return value.dump();
  const double number = value.get<double>();
  // %.4g would turn 12345.6 into 1.235e+04, so numbers of five digits and more are rounded to
  // integers.
  return std::abs(number) >= 1000 && std::abs(number) < 1e9 ? fmt::format("{:.0f}", number)
                                                            : fmt::format("{:.4g}", number);
}

std::string csv_field(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) return value.dump();
  auto text = value.get<std::string>();
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

}  // namespace

void add_format_option(CLI::App& command, Format& format) {
  static const std::map<std::string, Format> kFormats{
      {"table", Format::kTable}, {"json", Format::kJson}, {"csv", Format::kCsv}};
  command
      .add_option_function<std::string>(
          "--format", [&format](const std::string& name) { format = kFormats.at(name); },
          "How results are printed: table, json or csv")
      ->check(CLI::IsMember({"table", "json", "csv"}))
      ->default_str("table");
}

void Report::add(nlohmann::ordered_json row) {
  rows_.push_back(std::move(row));
}

std::string Report::render(Format format) const {
  switch (format) {
    case Format::kJson:
      return rows_.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
    case Format::kCsv:
      return render_csv();
    case Format::kTable:
      return render_table();
  }
  throw Error("report: expected a known format, got another number");
}

std::string Report::render_table() const {
  if (rows_.empty()) return "";
  struct Column {
    std::string key;
    std::size_t width;
    bool numeric = true;
  };
  std::vector<Column> columns;
  for (const auto& [key, value] : rows_.front().items()) columns.push_back({key, key.size()});
  for (const Json& row : rows_) {
    for (Column& column : columns) {
      const Json& value = row.at(column.key);
      column.width = std::max(column.width, cell(value).size());
      column.numeric = column.numeric && (value.is_number() || value.is_null());
    }
  }
  std::string text;
  const auto add_line = [&](const auto& field_of) {
    std::string line;
    for (const Column& column : columns) {
      if (!line.empty()) line += "  ";
      line += column.numeric ? fmt::format("{:>{}}", field_of(column), column.width)
                             : fmt::format("{:<{}}", field_of(column), column.width);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  add_line([](const Column& column) { return column.key; });
  add_line([](const Column& column) { return std::string(column.width, '-'); });
  for (const Json& row : rows_) {
    add_line([&](const Column& column) { return cell(row.at(column.key)); });
  }
  return text;
}

std::string Report::render_csv() const {
  if (rows_.empty()) return "";
  std::string text;
  const auto add_line = [&](const auto& field_of) {
    const char* separator = "";
    for (const auto& [key, unused] : rows_.front().items()) {
      text += separator;
      text += field_of(key);
      separator = ",";
    }
    text += '\n';
  };
  add_line([](const std::string& key) { return key; });
  for (const Json& row : rows_) {
    add_line([&](const std::string& key) { return csv_field(row.at(key)); });
  }
  return text;
}

void Report::print(Format format) const {
  const std::string text = render(format);
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error("report: expected to write to standard output, got an error");
  }
}

}  // namespace ecoformer::cli
