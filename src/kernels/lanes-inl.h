// Loops over the floats of a row and sums of them, for one target: whole vectors, then halves of
// them, so that nothing outside is touched.

#if defined(ECOFORMER_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ECOFORMER_KERNELS_LANES_INL_H_
#undef ECOFORMER_KERNELS_LANES_INL_H_
#else
#define ECOFORMER_KERNELS_LANES_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ecoformer::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// Calls body(tag, i) for floats i .. i + lanes(tag) - 1 until all of `size` are covered: vectors
/// of `d`, then halves of it, so that nothing outside is touched.
template <class D, class Body>
HWY_INLINE void for_lanes(D d, std::int64_t i, std::int64_t size, const Body& body) {
  constexpr std::int64_t kLanes = hn::MaxLanes(d);
  for (; i + kLanes <= size; i += kLanes) body(d, i);
  if constexpr (kLanes > 1) {
    if (i < size) for_lanes(hn::Half<D>(), i, size, body);
  }
}

template <int kValue>
struct Constant {
  /// The constant or, if that is 0, what is known at run time only.
  static constexpr int or_else(int value) { return kValue != 0 ? kValue : value; }
};

/// Calls body(D) with a constant for the usual widths, so that loops over channels unroll.
template <class Body>
HWY_INLINE void with_dim(int dim, const Body& body) {
  if (dim == 16) return body(Constant<16>());
  if (dim == 32) return body(Constant<32>());
  if (dim == 64) return body(Constant<64>());
  return body(Constant<0>());
}

// ---- Four sums over lanes at once ----

/// Four sums side by side in one vector; the scalar target does without.
constexpr int kQuad = HWY_TARGET == HWY_SCALAR ? 1 : 4;
using Quad = hn::CappedTag<float, kQuad>;
constexpr Quad kQuadTag;
constexpr hn::RebindToSigned<Quad> kQuadIndex;
using QuadVector = hn::Vec<Quad>;

#if HWY_TARGET != HWY_SCALAR

template <class D>
HWY_INLINE QuadVector sum_of_blocks(D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return sum_of_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

/// Lane k is the sum of all lanes of v[k]: four reductions for the price of two.
template <class D>
HWY_INLINE QuadVector sums_of_lanes(D d, const hn::Vec<D> (&v)[kQuad]) {
  const hn::Repartition<double, D> pairs;
  const auto v01 = hn::BitCast(
      pairs, hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1])));
  const auto v23 = hn::BitCast(
      pairs, hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3])));
  return sum_of_blocks(d, hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, v01, v23)),
                                  hn::BitCast(d, hn::InterleaveUpper(pairs, v01, v23))));
}

#endif  // HWY_TARGET != HWY_SCALAR

/// Lane k is the k-th of four sums over floats i .. size - 1. add(tag, i, k, sum) adds to sum's
/// lanes what it has at i, i + 1, ..., as many as sum has lanes.
template <class D, class Add>
HWY_INLINE QuadVector quad_sums(D d, int i, int size, const Add& add) {
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(d));
  if constexpr (kLanes < 4) {
    constexpr hn::CappedTag<float, 1> kOne;
    HWY_ALIGN float sums[kQuad] = {};
    for (; i < size; ++i) {
      for (int k = 0; k < kQuad; ++k) {
        sums[k] = hn::GetLane(add(kOne, i, k, hn::Set(kOne, sums[k])));
      }
    }
    return hn::Load(kQuadTag, sums);
  } else {
#if HWY_TARGET != HWY_SCALAR
    hn::Vec<D> sum[kQuad];
    for (auto& each : sum) each = hn::Zero(d);
    for (; i + kLanes <= size; i += kLanes) {
      for (int k = 0; k < kQuad; ++k) sum[k] = add(d, i, k, sum[k]);
    }
    const QuadVector sums = sums_of_lanes(d, sum);
    return i == size ? sums : hn::Add(sums, quad_sums(hn::Half<D>(), i, size, add));
#endif
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ecoformer::kernels
HWY_AFTER_NAMESPACE();

#endif  // ECOFORMER_KERNELS_LANES_INL_H_
