// Progress on stderr: a bar that redraws itself on a terminal, a plain line now and then elsewhere.
#pragma once

#include <cstdint>
#include <string>

namespace ecoformer::cli {

/// True if stderr is a terminal that understands cursor control.
bool stderr_is_terminal();
/// True if, besides, the user has not set NO_COLOR.
bool stderr_has_colour();

/// Writes one line to stderr, not through the bar of a Progress that is being shown.
void log_line(const std::string& text);

/// Shows how far a job is.
class Progress {
 public:
  /// `what` is put in front; a plain line is written for every `plain_every` steps and for the
  /// last.
  Progress(std::string what, std::int64_t total, std::int64_t plain_every);
  /// Clears the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` steps; `details` follow behind, for example "loss 2.1  7.3e4 tokens/s".
  void update(std::int64_t done, const std::string& details);

  /// Writes a line above the bar.
  void log(const std::string& text);

 private:
  void clear();

  std::string what_;
  std::int64_t total_;
  std::int64_t plain_every_;
  bool terminal_;
  bool shown_ = false;
};

/// Seconds as 59 s, 3:07 or 2:05:09.
std::string duration_text(double seconds);

}  // namespace ecoformer::cli
