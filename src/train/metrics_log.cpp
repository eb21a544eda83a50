// The metrics log: rewritten atomically once, then appended to.
#include "train/metrics_log.h"

#include <fmt/format.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>

#include "ecoformer/base/atomic_file.h"
#include "ecoformer/base/error.h"

namespace ecoformer::train {

MetricsLog::MetricsLog(std::filesystem::path path, std::int64_t last_step)
    : path_(std::move(path)) {
  std::string kept;
  std::ifstream old(path_);
  for (std::string line; std::getline(old, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer() &&
        json["step"].get<std::int64_t>() <= last_step) {
      kept += line + '\n';
    }
  }
  old.close();
  write_atomically(path_, kept);
  stream_.open(path_, std::ios::app);
}

void MetricsLog::append(const nlohmann::json& line) {
  errno = 0;
  stream_ << line.dump() << '\n' << std::flush;
  if (!stream_) {
    throw Error(fmt::format("append to {}: expected the line to reach the file, got '{}'",
                            path_.string(), std::generic_category().message(errno)));
  }
}

}  // namespace ecoformer::train
