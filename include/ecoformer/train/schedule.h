// Learning rates as pure functions of the step, so that resuming needs no schedule state.
#pragma once

#include <cstdint>

namespace ecoformer::train {

/// The rate for the update that follows `step` finished ones, as torch's OneCycleLR with linear
/// annealing: peak / 25 at step 0, `peak` at step warmup_steps - 1, peak / 25 / 10^4 at step
/// steps - 1 and after. Without warm-up the first update has the peak. Needs warmup_steps < steps.
double one_cycle(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak);

/// Linear from `warmup_rate` at step 0 to `peak` at step `warmup_steps`, then half a cosine that
/// reaches `min_rate` at step `steps` and stays there. Needs warmup_steps < steps.
double warmup_cosine(std::int64_t step, std::int64_t steps, std::int64_t warmup_steps, double peak,
                     double warmup_rate, double min_rate);

}  // namespace ecoformer::train
