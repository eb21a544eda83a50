// Independent multiply-adds with a broadcast operand, enough of them in flight to hide the latency.

#include "peak.h"

#include <algorithm>
#include <ctime>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "peak.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ecoformer::benchmarks {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::CappedTag<float, 16> kF32;
constexpr int kSums = 8;

/// Adds kSums products `rounds` times; returns the multiply-adds done. `factors` holds kSums.
double multiply_add(long rounds, const float* factors, float* sink) {
  hn::Vec<decltype(kF32)> sum[kSums];
  for (auto& each : sum) each = hn::Zero(kF32);
  const auto x = hn::Set(kF32, factors[0]);
  for (long i = 0; i < rounds; ++i) {
    // Hides from the compiler that the factors stay the same, so that it loads them again; a memory
    // clobber would send the sums to memory as well.
    asm volatile("" : "+r"(factors));
    for (int k = 0; k < kSums; ++k) {
      sum[k] = hn::MulAdd(hn::Set(kF32, factors[k]), x, sum[k]);
    }
  }
  auto total = sum[0];
  for (int k = 1; k < kSums; ++k) total = hn::Add(total, sum[k]);
  *sink = hn::GetLane(hn::SumOfLanes(kF32, total));
  return static_cast<double>(rounds) * kSums * static_cast<double>(hn::Lanes(kF32));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ecoformer::benchmarks
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace ecoformer::benchmarks {

HWY_EXPORT(multiply_add);

double multiply_adds_per_ns() {
  const float factors[8] = {};
  float sink = 0;
  double best = 0;
  for (int trial = 0; trial < 20; ++trial) {
    const std::clock_t start = std::clock();  // of this process: others do not count
    const double done = HWY_DYNAMIC_DISPATCH(multiply_add)(2'000'000, factors, &sink);
    const double taken = 1e9 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    best = std::max(best, done / taken);
  }
  return best;
}

}  // namespace ecoformer::benchmarks

#endif  // HWY_ONCE
