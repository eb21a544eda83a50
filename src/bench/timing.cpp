// Rounds over all tasks, a sample a round.

#include "bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace ecoformer::bench {
namespace {

using Clock = std::chrono::steady_clock;

/// Seconds. Long enough that the caches which the task before left behind hardly count.
constexpr double kShortestSample = 20e-3;
constexpr int kFewestRounds = 3;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double time_of(const std::function<void()>& task, std::int64_t runs) {
  const auto start = Clock::now();
  for (std::int64_t i = 0; i < runs; ++i) task();
  return seconds_since(start) / static_cast<double>(runs);
}

/// Linear interpolation between sorted samples.
double quantile(const std::vector<double>& sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

}  // namespace

Timing summarise(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const double median = quantile(samples, 0.5);
  return {.median = median, .spread = (quantile(samples, 0.75) - quantile(samples, 0.25)) / median};
}

std::vector<Timing> time_in_turn(const std::vector<std::function<void()>>& tasks, double seconds) {
  const auto start = Clock::now();
  std::vector<std::int64_t> runs;
  runs.reserve(tasks.size());
  for (const auto& task : tasks) {
    task();  // caches, and memory that later runs find again
    runs.push_back(static_cast<std::int64_t>(std::ceil(kShortestSample / time_of(task, 1))));
  }
  std::vector<std::vector<double>> samples(tasks.size());
  for (int round = 0; round < kFewestRounds || seconds_since(start) < seconds; ++round) {
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      samples[i].push_back(time_of(tasks[i], runs[i]));
    }
  }
  std::vector<Timing> timings;
  timings.reserve(tasks.size());
  for (auto& sample : samples) timings.push_back(summarise(std::move(sample)));
  return timings;
}

}  // namespace ecoformer::bench
