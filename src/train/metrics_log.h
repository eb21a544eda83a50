// metrics.jsonl: one JSON object a line, each with the `step` it belongs to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>

namespace ecoformer::train {

class MetricsLog {
 public:
  /// Continues the log at `path`, from which lines beyond `last_step` are dropped first, broken
  /// ones too: a killed run leaves such lines. Throws Error where the file cannot be written.
  MetricsLog(std::filesystem::path path, std::int64_t last_step);

  /// Appends a line at once. Throws Error where that fails.
  void append(const nlohmann::json& line);

 private:
  std::filesystem::path path_;
  std::ofstream stream_;
};

}  // namespace ecoformer::train
