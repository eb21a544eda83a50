// Wall-clock timing of alternatives side by side, for machines that are never quiet.
#pragma once

#include <functional>
#include <vector>

namespace ecoformer::bench {

/// Seconds one run took, over all rounds.
struct Timing {
  double median = 0;
  double spread = 0;  ///< distance of the quartiles, as a share of the median
};

/// Times every task in turn, round after round, so that whatever disturbs the machine disturbs all
/// of them. A sample is the mean over as many runs as last 20 ms or more. Rounds end after
/// `seconds` in all, but not before the third.
std::vector<Timing> time_in_turn(const std::vector<std::function<void()>>& tasks, double seconds);

/// Median and spread of samples; they may come in any order, at least one.
Timing summarise(std::vector<double> samples);

}  // namespace ecoformer::bench
