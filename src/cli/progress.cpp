// The bar and its plain substitute.

#include "progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace ecoformer::cli {
namespace {

constexpr std::int64_t kBarWidth = 24;

std::size_t terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void write_stderr(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

bool stderr_has_colour() {
  const char* no_colour = std::getenv("NO_COLOR");
  return stderr_is_terminal() && (no_colour == nullptr || *no_colour == '\0');
}

void log_line(const std::string& text) {
  write_stderr(text + '\n');
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

Progress::Progress(std::string what, std::int64_t total, std::int64_t plain_every)
    : what_(std::move(what)),
      total_(std::max<std::int64_t>(1, total)),
      plain_every_(std::max<std::int64_t>(1, plain_every)),
      terminal_(stderr_is_terminal()) {}

Progress::~Progress() {
  clear();
}

void Progress::update(std::int64_t done, const std::string& details) {
  const std::string counts = fmt::format("{}/{}", done, total_);
  if (!terminal_) {
    if (done % plain_every_ == 0 || done == total_) {
      log_line(fmt::format("{} {}  {}", what_, counts, details));
    }
    return;
  }
  const std::int64_t filled = std::clamp<std::int64_t>(kBarWidth * done / total_, 0, kBarWidth);
  const std::string full(static_cast<std::size_t>(filled), '#');
  const std::string empty(static_cast<std::size_t>(kBarWidth - filled), '.');
  // What does not fit is cut: a wrapped line could not be redrawn in place.
  const std::size_t taken = what_.size() + static_cast<std::size_t>(kBarWidth) + 4;
  const std::size_t columns = terminal_columns();
  const std::string tail =
      fmt::format("{}  {}", counts, details).substr(0, columns > taken ? columns - taken - 1 : 0);
  const bool colour = stderr_has_colour();
  write_stderr(fmt::format("\r\033[K{} [{}{}{}{}] {}", what_, colour ? "\033[32m" : "", full,
                           colour ? "\033[0m" : "", empty, tail));
  shown_ = true;
}

void Progress::log(const std::string& text) {
  clear();
  log_line(text);
}

void Progress::clear() {
  if (shown_) write_stderr("\r\033[K");
  shown_ = false;
}

}  // namespace ecoformer::cli
