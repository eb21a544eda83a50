// Learning rates as pure functions of the step.
#include "ecoformer/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ecoformer::train {

double one_cycle(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak) {
  const double first = peak / 25;
  const double last = first / 1e4;
  const std::int64_t top = std::max<std::int64_t>(warmup_steps - 1, 0);
  if (step < top) {
    return first + (peak - first) * static_cast<double>(step) / static_cast<double>(top);
  }
  const double fall = static_cast<double>(std::max<std::int64_t>(steps - 1 - top, 1));
  return peak + (last - peak) * std::min(1.0, static_cast<double>(step - top) / fall);
}

double warmup_cosine(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak,
                     double warmup_rate, double min_rate) {
  if (step < warmup_steps) {
    return warmup_rate +
           (peak - warmup_rate) * static_cast<double>(step) / static_cast<double>(warmup_steps);
  }
  const double done = std::min(
      1.0, static_cast<double>(step - warmup_steps) / static_cast<double>(steps - warmup_steps));
  return min_rate + (peak - min_rate) * (1 + std::cos(std::numbers::pi * done)) / 2;
}

}  // namespace ecoformer::train
