// Attention by table lookup, for one target; see tables.h for the formulas. Channels are lanes, and
// what is exact class uses only additions, subtractions, multiplications and divisions in a fixed
// order, so it has the same bits on every target. bit_gradient sums over lanes: tolerance class.

#if defined(ECOFORMER_KERNELS_TABLES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ECOFORMER_KERNELS_TABLES_INL_H_
#undef ECOFORMER_KERNELS_TABLES_INL_H_
#else
#define ECOFORMER_KERNELS_TABLES_INL_H_
#endif

#include <math.h>

#include <cstdint>

#include "ecoformer/kernels/tables.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ecoformer::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::ScalableTag<float> kF32;

/// ceil(64 / 4).
constexpr int kMaxGroups = 16;

HWY_INLINE bool counts(const std::uint8_t* mask, std::int64_t n) {
  return mask == nullptr || mask[n] != 0;
}

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

/// Calls body(D, G) with constants for the usual shapes, so that their loops unroll.
template <class Body>
HWY_INLINE void with_shape(int dim, int groups, const Body& body) {
  const auto with_dim = [&](auto constant_dim) HWY_ATTR {
    if (groups == 2) return body(constant_dim, Constant<2>());
    if (groups == 4) return body(constant_dim, Constant<4>());
    return body(constant_dim, Constant<0>());
  };
  if (dim == 16) return with_dim(Constant<16>());
  if (dim == 32) return with_dim(Constant<32>());
  if (dim == 64) return with_dim(Constant<64>());
  return with_dim(Constant<0>());
}

// ---- Accumulate ----

void accumulate(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstRows values,
                const float* token_weights, std::int64_t tokens, int any_dim, Table table) {
  with_shape(any_dim, layout.groups(), [&](auto constant_dim, auto constant_groups) HWY_ATTR {
    const int dim = constant_dim.or_else(any_dim);
    const int groups = constant_groups.or_else(layout.groups());
    std::int64_t row[kMaxGroups];
    for (std::int64_t n = 0; n < tokens; ++n) {
      if (!counts(mask, n)) continue;
      for (int g = 0; g < groups; ++g) row[g] = layout.first_row(g) + layout.value(codes[n], g);
      const float* value = values[n];
      for_lanes(kF32, 0, dim, [&](auto d, std::int64_t i) HWY_ATTR {
        const auto v = hn::LoadU(d, value + i);
        for (int g = 0; g < groups; ++g) {
          float* sum = table.values + row[g] * dim + i;
          hn::StoreU(hn::Add(hn::LoadU(d, sum), v), d, sum);
        }
      });
      const float weight = token_weights == nullptr ? 1 : token_weights[n];
      for (int g = 0; g < groups; ++g) table.weights[row[g]] += weight;
    }
  });
}

// ---- Mix ----

/// Mixes the channels of `d` of one group's rows, `dim` floats apart, by width - 2 distance + bias:
///
///   S = sum_n T[n]     B_r = sum_n h_r(n) T[n]     U[n] = bias S + sum_r h_r(n) B_r
///
/// Halving leaves S in row 0 and B_r in row 2^r; doubling uses U[n | 2^r] = U[n] + 2 B_r.
template <class D>
HWY_INLINE void mix_linear_channels(D d, float* rows, std::int64_t dim, int width, float bias) {
  for (int half = 1 << width >> 1; half > 0; half >>= 1) {
    auto difference = hn::Zero(d);
    for (int n = 0; n < half; ++n) {
      const auto clear = hn::LoadU(d, rows + n * dim);
      const auto set = hn::LoadU(d, rows + (n + half) * dim);
      difference = hn::Add(difference, hn::Sub(set, clear));
      hn::StoreU(hn::Add(clear, set), d, rows + n * dim);
    }
    hn::StoreU(difference, d, rows + half * dim);
  }
  auto all_clear = hn::Mul(hn::Set(d, bias), hn::LoadU(d, rows));
  for (int r = 0; r < width; ++r) {
    all_clear = hn::Sub(all_clear, hn::LoadU(d, rows + (dim << r)));
  }
  hn::StoreU(all_clear, d, rows);
  for (int half = 1; half < 1 << width; half *= 2) {
    const auto difference = hn::LoadU(d, rows + half * dim);
    const auto twice = hn::Add(difference, difference);
    for (int n = 0; n < half; ++n) {
      hn::StoreU(hn::Add(hn::LoadU(d, rows + n * dim), twice), d, rows + (n + half) * dim);
    }
  }
}

HWY_INLINE void mix_linear(float* rows, std::int64_t dim, int width, float bias) {
  for_lanes(kF32, 0, dim, [&](auto d, std::int64_t i) HWY_ATTR {
    mix_linear_channels(d, rows + i, dim, width, bias);
  });
}

/// The numbers of an exponential mix: floats.
struct Plain {
  float* value;
  float e;  ///< exp(-2 beta)

  HWY_INLINE Plain from(std::int64_t i) const { return {value + i, e}; }
  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::int64_t i) const {
    return hn::LoadU(d, value + i);
  }
  template <class D>
  HWY_INLINE void store(D d, hn::Vec<D> a, std::int64_t i) const {
    hn::StoreU(a, d, value + i);
  }
  /// One bit: (a, b) -> (a + e b, b + e a).
  template <class D, class V>
  HWY_INLINE void butterfly(D d, V& a, V& b) const {
    const V factor = hn::Set(d, e);
    const V old = a;
    a = hn::Add(a, hn::Mul(factor, b));
    b = hn::Add(b, hn::Mul(factor, old));
  }
};

/// A value and its derivative by beta.
template <class V>
struct DualVector {
  V value;
  V slope;
};

/// The numbers of an exponential mix: dual numbers a + a' d(beta), where e' = -2 e.
struct Dual {
  Plain value;
  Plain slope;

  HWY_INLINE Dual from(std::int64_t i) const { return {value.from(i), slope.from(i)}; }
  template <class D>
  HWY_INLINE DualVector<hn::Vec<D>> load(D d, std::int64_t i) const {
    return {value.load(d, i), slope.load(d, i)};
  }
  template <class D>
  HWY_INLINE void store(D d, const DualVector<hn::Vec<D>>& a, std::int64_t i) const {
    value.store(d, a.value, i);
    slope.store(d, a.slope, i);
  }
  /// (a', b') -> (a' + e b' + e' b, b' + e a' + e' a), and the values as ever.
  template <class D, class V>
  HWY_INLINE void butterfly(D d, DualVector<V>& a, DualVector<V>& b) const {
    const V factor_slope = hn::Set(d, -2 * value.e);
    slope.butterfly(d, a.slope, b.slope);
    a.slope = hn::Add(a.slope, hn::Mul(factor_slope, b.value));
    b.slope = hn::Add(b.slope, hn::Mul(factor_slope, a.value));
    value.butterfly(d, a.value, b.value);
  }
};

/// Mixes one group's rows by exp(-2 beta distance), one butterfly a bit. Rows that differ in a bit
/// are `stride` floats apart, in blocks of as many; two bits a pass halve the loads and stores.
template <class Numbers>
HWY_INLINE void mix_exponential(Numbers rows, std::int64_t dim, int width) {
  const std::int64_t size = dim << width;
  std::int64_t stride = dim;
  if (width % 2 == 1) {
    for (std::int64_t first = 0; first < size; first += 2 * stride) {
      const Numbers clear = rows.from(first);
      const Numbers set = rows.from(first + stride);
      for_lanes(kF32, 0, stride, [&](auto d, std::int64_t i) HWY_ATTR {
        auto a = clear.load(d, i);
        auto b = set.load(d, i);
        rows.butterfly(d, a, b);
        clear.store(d, a, i);
        set.store(d, b, i);
      });
    }
    stride *= 2;
  }
  for (; stride < size; stride *= 4) {
    for (std::int64_t first = 0; first < size; first += 4 * stride) {
      const Numbers rows00 = rows.from(first);
      const Numbers rows01 = rows.from(first + stride);
      const Numbers rows10 = rows.from(first + 2 * stride);
      const Numbers rows11 = rows.from(first + 3 * stride);
      for_lanes(kF32, 0, stride, [&](auto d, std::int64_t i) HWY_ATTR {
        auto v00 = rows00.load(d, i);
        auto v01 = rows01.load(d, i);
        auto v10 = rows10.load(d, i);
        auto v11 = rows11.load(d, i);
        rows.butterfly(d, v00, v01);
        rows.butterfly(d, v10, v11);
        rows.butterfly(d, v00, v10);
        rows.butterfly(d, v01, v11);
        rows00.store(d, v00, i);
        rows01.store(d, v01, i);
        rows10.store(d, v10, i);
        rows11.store(d, v11, i);
      });
    }
  }
}

/// The C function: std::exp(float) would be a function of the standard library in this object.
float sharpness(const Profile& profile) {
  return ::expf(-2 * profile.beta);
}

void mix(CodeLayout layout, const Profile& profile, int dim, Table table) {
  const int groups = layout.groups();
  for (int g = 0; g < groups; ++g) {
    const int width = layout.width(g);
    float* values = table.values + layout.first_row(g) * dim;
    float* weights = table.weights + layout.first_row(g);
    if (profile.kind == Profile::Kind::kLinear) {
      mix_linear(values, dim, width, profile.value_bias / static_cast<float>(groups));
      mix_linear(weights, 1, width, profile.weight_bias / static_cast<float>(groups));
    } else {
      mix_exponential(Plain{values, sharpness(profile)}, dim, width);
      mix_exponential(Plain{weights, sharpness(profile)}, 1, width);
    }
  }
}

/// mix_exponential of one group's rows and, in `slopes`, of their derivative by beta.
HWY_INLINE void mix_exponential_dual(float* rows, float* slopes, std::int64_t dim, int width,
                                     float e) {
  for (std::int64_t i = 0; i < dim << width; ++i) slopes[i] = 0;
  mix_exponential(Dual{{rows, e}, {slopes, e}}, dim, width);
}

void mix_with_derivative(CodeLayout layout, const Profile& profile, int dim, Table table,
                         Table derivative) {
  const float e = sharpness(profile);
  for (int g = 0; g < layout.groups(); ++g) {
    const std::int64_t first = layout.first_row(g);
    const int width = layout.width(g);
    mix_exponential_dual(table.values + first * dim, derivative.values + first * dim, dim, width,
                         e);
    mix_exponential_dual(table.weights + first, derivative.weights + first, 1, width, e);
  }
}

// ---- Gather ----

void gather(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstTable mixed,
            float self, ConstRows own, std::int64_t tokens, int any_dim, Rows out,
            float* inverse_weights) {
  with_shape(any_dim, layout.groups(), [&](auto constant_dim, auto constant_groups) HWY_ATTR {
    const int dim = constant_dim.or_else(any_dim);
    const int groups = constant_groups.or_else(layout.groups());
    std::int64_t row[kMaxGroups];
    for (std::int64_t n = 0; n < tokens; ++n) {
      for (int g = 0; g < groups; ++g) row[g] = layout.first_row(g) + layout.value(codes[n], g);
      float inverse = counts(mask, n) ? 1 : 0;
      if (mixed.weights != nullptr) {
        float weight = 0;
        for (int g = 0; g < groups; ++g) weight += mixed.weights[row[g]];
        inverse = inverse != 0 && weight > 0 ? 1 / weight : 0;
        if (inverse_weights != nullptr) inverse_weights[n] = inverse;
      }
      float* result = out[n];
      if (inverse == 0) {
        for (int i = 0; i < dim; ++i) result[i] = 0;
        continue;
      }
      for_lanes(kF32, 0, dim, [&](auto d, std::int64_t i) HWY_ATTR {
        auto sum = hn::LoadU(d, mixed.values + row[0] * dim + i);
        for (int g = 1; g < groups; ++g) {
          sum = hn::Add(sum, hn::LoadU(d, mixed.values + row[g] * dim + i));
        }
        if (self != 0) {
          sum = hn::Add(sum, hn::Mul(hn::Set(d, self), hn::LoadU(d, own[n] + i)));
        }
        hn::StoreU(hn::Mul(sum, hn::Set(d, inverse)), d, result + i);
      });
    }
  });
}

// ---- Bit gradient ----

/// x . (set - clear).
template <class D>
HWY_INLINE float dot_difference(D d, const float* x, const float* set, const float* clear,
                                int size) {
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(d));
  auto sum = hn::Zero(d);
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const auto difference = hn::Sub(hn::LoadU(d, set + i), hn::LoadU(d, clear + i));
    sum = hn::MulAdd(hn::LoadU(d, x + i), difference, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  if constexpr (kLanes > 1) {
    if (i < size) total += dot_difference(hn::Half<D>(), x + i, set + i, clear + i, size - i);
  }
  return total;
}

void bit_gradient(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstRows x,
                  const float* token_weights, ConstTable mixed, std::int64_t tokens, int any_dim,
                  float* grad) {
  with_shape(any_dim, 0, [&](auto constant_dim, auto) HWY_ATTR {
    const int dim = constant_dim.or_else(any_dim);
    for (std::int64_t n = 0; n < tokens; ++n) {
      if (!counts(mask, n)) continue;
      const float token_weight = token_weights == nullptr ? 1 : token_weights[n];
      float* token_grad = grad + n * layout.bits;
      for (int g = 0; g < layout.groups(); ++g) {
        const std::int64_t row = layout.first_row(g) + layout.value(codes[n], g);
        for (int r = 0; r < layout.width(g); ++r) {
          const std::int64_t set = row | std::int64_t{1} << r;
          const std::int64_t clear = set ^ std::int64_t{1} << r;
          const float values =
              dot_difference(kF32, x[n], mixed.values + set * dim, mixed.values + clear * dim, dim);
          const float weights = token_weight * (mixed.weights[set] - mixed.weights[clear]);
          token_grad[g * layout.group_bits + r] += 0.5F * (values + weights);
        }
      }
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ecoformer::kernels
HWY_AFTER_NAMESPACE();

#endif  // ECOFORMER_KERNELS_TABLES_INL_H_
