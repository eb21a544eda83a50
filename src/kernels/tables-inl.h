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
#include "kernels/lanes-inl.h"

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

/// Calls body(D, G, w) in the same way; the usual layouts are 16 bits in groups of 8 or of 4.
template <class Body>
HWY_INLINE void with_shape(int dim, CodeLayout layout, const Body& body) {
  with_dim(dim, [&](auto constant_dim) HWY_ATTR {
    if (layout.group_bits == 8 && layout.groups() == 2) {
      body(constant_dim, Constant<2>(), Constant<8>());
    } else if (layout.group_bits == 4 && layout.groups() == 4) {
      body(constant_dim, Constant<4>(), Constant<4>());
    } else {
      body(constant_dim, Constant<0>(), Constant<0>());
    }
  });
}

// ---- Accumulate ----

void accumulate(CodeLayout any_layout, const Code* codes, const std::uint8_t* mask,
                ConstRows values, const float* token_weights, std::int64_t tokens, int any_dim,
                Table table) {
  with_shape(
      any_dim, any_layout,
      [&](auto constant_dim, auto constant_groups, auto constant_bits) HWY_ATTR {
        const int dim = constant_dim.or_else(any_dim);
        const int groups = constant_groups.or_else(any_layout.groups());
        const CodeLayout layout{any_layout.bits, constant_bits.or_else(any_layout.group_bits)};
        float* sums[kMaxGroups];
        for (std::int64_t n = 0; n < tokens; ++n) {
          if (!counts(mask, n)) continue;
          const float weight = token_weights == nullptr ? 1 : token_weights[n];
          for (int g = 0; g < groups; ++g) {
            const std::int64_t row = layout.first_row(g) + layout.value(codes[n], g);
            sums[g] = table.values + row * dim;
            table.weights[row] += weight;
          }
          const float* value = values[n];
          for_lanes(kF32, 0, dim, [&](auto d, std::int64_t i) HWY_ATTR {
            const auto v = hn::LoadU(d, value + i);
            for (int g = 0; g < groups; ++g) {
              hn::StoreU(hn::Add(hn::LoadU(d, sums[g] + i), v), d, sums[g] + i);
            }
          });
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

/// mix_exponential of one group's rows and, in `slopes`, of their derivative by beta.
HWY_INLINE void mix_exponential_dual(float* rows, float* slopes, std::int64_t dim, int width,
                                     float e) {
  for (std::int64_t i = 0; i < dim << width; ++i) slopes[i] = 0;
  mix_exponential(Dual{{rows, e}, {slopes, e}}, dim, width);
}

void mix(CodeLayout layout, const Profile& profile, int dim, Table table, const Table* derivative) {
  const int groups = layout.groups();
  for (int g = 0; g < groups; ++g) {
    const int width = layout.width(g);
    const std::int64_t first = layout.first_row(g);
    float* values = table.values + first * dim;
    float* weights = table.weights + first;
    if (profile.kind == Profile::Kind::kLinear) {
      mix_linear(values, dim, width, profile.value_bias / static_cast<float>(groups));
      mix_linear(weights, 1, width, profile.weight_bias / static_cast<float>(groups));
    } else if (derivative == nullptr) {
      mix_exponential(Plain{values, sharpness(profile)}, dim, width);
      mix_exponential(Plain{weights, sharpness(profile)}, 1, width);
    } else {
      const float e = sharpness(profile);
      mix_exponential_dual(values, derivative->values + first * dim, dim, width, e);
      mix_exponential_dual(weights, derivative->weights + first, 1, width, e);
    }
  }
}

// ---- Gather ----

void gather(CodeLayout any_layout, const Code* codes, const std::uint8_t* mask, ConstTable mixed,
            float self, ConstRows own, std::int64_t tokens, int any_dim, Rows out,
            float* inverse_weights) {
  with_shape(
      any_dim, any_layout,
      [&](auto constant_dim, auto constant_groups, auto constant_bits) HWY_ATTR {
        const int dim = constant_dim.or_else(any_dim);
        const int groups = constant_groups.or_else(any_layout.groups());
        const CodeLayout layout{any_layout.bits, constant_bits.or_else(any_layout.group_bits)};
        const bool divides = mixed.weights != nullptr;
        const float* sums[kMaxGroups];
        for (std::int64_t n = 0; n < tokens; ++n) {
          float weight = divides ? 0 : 1;
          for (int g = 0; g < groups; ++g) {
            const std::int64_t row = layout.first_row(g) + layout.value(codes[n], g);
            sums[g] = mixed.values + row * dim;
            if (divides) weight += mixed.weights[row];
          }
          const float inverse = counts(mask, n) && weight > 0 ? 1 / weight : 0;
          if (divides && inverse_weights != nullptr) inverse_weights[n] = inverse;
          float* result = out[n];
          if (inverse == 0) {
            for (int i = 0; i < dim; ++i) result[i] = 0;
            continue;
          }
          for_lanes(kF32, 0, dim, [&](auto d, std::int64_t i) HWY_ATTR {
            auto sum = hn::LoadU(d, sums[0] + i);
            for (int g = 1; g < groups; ++g) sum = hn::Add(sum, hn::LoadU(d, sums[g] + i));
            if (self != 0) {
              sum = hn::Add(sum, hn::Mul(hn::Set(d, self), hn::LoadU(d, own[n] + i)));
            }
            hn::StoreU(hn::Mul(sum, hn::Set(d, inverse)), d, result + i);
          });
        }
      });
}

// ---- Pairs ----

/// The profile as a lookup by the bits in which two codes differ.
class PairProfile {
 public:
  HWY_INLINE PairProfile(CodeLayout layout, const Profile& profile, float bias) : layout_(layout) {
    fill(whole_, layout.width(0), profile, bias);
    fill(last_, layout.width(layout.groups() - 1), profile, bias);
  }

  /// sum_g profile_g(hamming), for the exclusive or of two codes.
  HWY_INLINE float weight(Code differing) const {
    const int last = layout_.groups() - 1;
    float sum = last_[layout_.value(differing, last)];
    for (int g = 0; g < last; ++g) sum += whole_[layout_.value(differing, g)];
    return sum;
  }

 private:
  HWY_INLINE void fill(float* by_bits, int width, const Profile& profile, float bias) const {
    float by_distance[9] = {1};
    if (profile.kind == Profile::Kind::kLinear) {
      const float share = bias / static_cast<float>(layout_.groups());
      for (int distance = 0; distance <= width; ++distance) {
        by_distance[distance] = static_cast<float>(width - 2 * distance) + share;
      }
    } else {
      const float e = sharpness(profile);
      for (int distance = 1; distance <= width; ++distance) {
        by_distance[distance] = by_distance[distance - 1] * e;
      }
    }
    std::uint8_t distance[256] = {};
    for (int bits = 0; bits < 1 << width; ++bits) {
      distance[bits] = static_cast<std::uint8_t>(distance[bits >> 1] + (bits & 1));
      by_bits[bits] = by_distance[distance[bits]];
    }
  }

  CodeLayout layout_;
  float whole_[256];  ///< every group but the last
  float last_[256];
};

/// What the sums of one query over all keys read, and where they go.
struct PairSums {
  const float* weights;  ///< [keys]
  const std::uint8_t* key_mask;
  std::int64_t keys;
  ConstRows values;
  float self;
  const float* own;
  float inverse;
  float* out;
};

/// Channels i .. of one query, kCount vectors at a time; returns where it stopped.
template <int kCount, class D>
HWY_INLINE std::int64_t sum_pairs(D d, const PairSums& p, std::int64_t i, std::int64_t dim) {
  constexpr std::int64_t kLanes = hn::MaxLanes(d);
  for (; i + kCount * kLanes <= dim; i += kCount * kLanes) {
    hn::Vec<D> sum[kCount];
    for (auto& each : sum) each = hn::Zero(d);
    for (std::int64_t j = 0; j < p.keys; ++j) {
      if (!counts(p.key_mask, j)) continue;
      const auto weight = hn::Set(d, p.weights[j]);
      const float* value = p.values[j] + i;
      for (int k = 0; k < kCount; ++k) {
        sum[k] = hn::Add(sum[k], hn::Mul(weight, hn::LoadU(d, value + k * kLanes)));
      }
    }
    for (int k = 0; k < kCount; ++k) {
      if (p.self != 0) {
        const auto own = hn::LoadU(d, p.own + i + k * kLanes);
        sum[k] = hn::Add(sum[k], hn::Mul(hn::Set(d, p.self), own));
      }
      hn::StoreU(hn::Mul(sum[k], hn::Set(d, p.inverse)), d, p.out + i + k * kLanes);
    }
  }
  return i;
}

void attend_pairs(CodeLayout layout, const Profile& profile, const Code* query_codes,
                  const std::uint8_t* query_mask, std::int64_t queries, const Code* key_codes,
                  const std::uint8_t* key_mask, std::int64_t keys, ConstRows values, ConstRows own,
                  int any_dim, Rows out, float* inverse_weights, float* scratch) {
  const PairProfile by_value(layout, profile, profile.value_bias);
  const PairProfile by_weight(layout, profile, profile.weight_bias);
  const bool same = profile.value_bias == profile.weight_bias;
  with_dim(any_dim, [&](auto constant_dim) HWY_ATTR {
    const int dim = constant_dim.or_else(any_dim);
    for (std::int64_t n = 0; n < queries; ++n) {
      float weight_sum = 0;
      for (std::int64_t j = 0; j < keys; ++j) {
        if (!counts(key_mask, j)) continue;
        const Code differing = query_codes[n] ^ key_codes[j];
        scratch[j] = by_value.weight(differing);
        weight_sum += same ? scratch[j] : by_weight.weight(differing);
      }
      const float inverse = counts(query_mask, n) && weight_sum > 0 ? 1 / weight_sum : 0;
      if (inverse_weights != nullptr) inverse_weights[n] = inverse;
      if (inverse == 0) {
        for (int i = 0; i < dim; ++i) out[n][i] = 0;
        continue;
      }
      const PairSums sums{scratch, key_mask,     keys,
                          values,  profile.self, profile.self != 0 ? own[n] : nullptr,
                          inverse, out[n]};
      std::int64_t first = sum_pairs<4>(kF32, sums, 0, dim);
      first = sum_pairs<2>(kF32, sums, first, dim);
      for_lanes(kF32, first, dim, [&](auto d, std::int64_t i) HWY_ATTR {
        sum_pairs<1>(d, sums, i, i + static_cast<std::int64_t>(hn::MaxLanes(d)));
      });
    }
  });
}

/// Of the tokens n .. n + kQuad - 1, none of which has a weight of 0.
HWY_INLINE void quad_backward(ConstRows grad, ConstRows out, const float* inverse_weights,
                              std::int64_t n, int dim, Rows values_grad, float* weight_grad) {
  const auto along = quad_sums(kF32, 0, dim, [&](auto d, int i, int k, auto sum) HWY_ATTR {
    const auto inverse = hn::Set(d, inverse_weights[n + k]);
    const auto scaled = hn::Mul(hn::LoadU(d, grad[n + k] + i), inverse);
    hn::StoreU(scaled, d, values_grad[n + k] + i);
    return hn::MulAdd(scaled, hn::LoadU(d, out[n + k] + i), sum);
  });
  hn::StoreU(hn::Neg(along), kQuadTag, weight_grad + n);
}

void gather_backward(ConstRows grad, ConstRows out, const float* inverse_weights,
                     std::int64_t tokens, int any_dim, Rows values_grad, float* weight_grad) {
  with_dim(any_dim, [&](auto constant_dim) HWY_ATTR {
    const int dim = constant_dim.or_else(any_dim);
    std::int64_t n = 0;
    while (n < tokens) {
      bool whole = n + kQuad <= tokens;
      for (int k = 0; whole && k < kQuad; ++k) whole = inverse_weights[n + k] != 0;
      if (whole) {
        quad_backward(grad, out, inverse_weights, n, dim, values_grad, weight_grad);
        n += kQuad;
        continue;
      }
      float along = 0;
      for (int i = 0; i < dim; ++i) {
        const float inverse = inverse_weights[n];
        values_grad[n][i] = inverse == 0 ? 0 : grad[n][i] * inverse;
        along += inverse == 0 ? 0 : values_grad[n][i] * out[n][i];
      }
      weight_grad[n] = -along;
      ++n;
    }
  });
}

// ---- Bit gradient ----

/// Rows of a table: the token's own and, for each bit of a quad, the one that differs in it.
struct QuadRows {
  const float* own;
  const float* flipped[kQuad];
};

/// One lane for each of kQuad floats.
HWY_INLINE QuadVector load_each(const float* const (&p)[kQuad]) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(kQuadTag, *p[0]);
#else
  const hn::Repartition<double, Quad> pairs;
  const auto p01 =
      hn::InterleaveLower(kQuadTag, hn::Set(kQuadTag, *p[0]), hn::Set(kQuadTag, *p[1]));
  const auto p23 =
      hn::InterleaveLower(kQuadTag, hn::Set(kQuadTag, *p[2]), hn::Set(kQuadTag, *p[3]));
  return hn::BitCast(kQuadTag,
                     hn::InterleaveLower(pairs, hn::BitCast(pairs, p01), hn::BitCast(pairs, p23)));
#endif
}

/// The gradient of kQuad bits from `first_bit` of a group on, added to grad[0 .. kQuad - 1]. Bit
/// r's is (value of its own row - value of the row with bit r flipped) / 2, negated if the bit is
/// clear.
HWY_INLINE void add_quad_gradient(ConstTable mixed, std::int64_t first_row, int value,
                                  int first_bit, const float* x, float token_weight, int dim,
                                  float* grad) {
  alignas(32) static constexpr std::int32_t kBits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const std::int64_t own_row = first_row + value;
  QuadRows rows;
  rows.own = mixed.values + own_row * dim;
  const float* flipped_weights[kQuad];
  for (int k = 0; k < kQuad; ++k) {
    const std::int64_t flipped_row = first_row + (value ^ kBits[first_bit + k]);
    rows.flipped[k] = mixed.values + flipped_row * dim;
    flipped_weights[k] = mixed.weights + flipped_row;
  }
  const auto weight =
      hn::Sub(hn::Set(kQuadTag, mixed.weights[own_row]), load_each(flipped_weights));
  const auto along = quad_sums(kF32, 0, dim, [&](auto d, int i, int k, auto sum) HWY_ATTR {
    const auto step = hn::Sub(hn::LoadU(d, rows.own + i), hn::LoadU(d, rows.flipped[k] + i));
    return hn::MulAdd(hn::LoadU(d, x + i), step, sum);
  });
  const auto sum = hn::MulAdd(hn::Set(kQuadTag, token_weight), weight, along);
  const auto bits = hn::LoadU(kQuadIndex, kBits + first_bit);
  const auto is_set = hn::RebindMask(kQuadTag, hn::TestBit(hn::Set(kQuadIndex, value), bits));
  const auto half = hn::IfThenElse(is_set, hn::Set(kQuadTag, 0.5F), hn::Set(kQuadTag, -0.5F));
  hn::StoreU(hn::MulAdd(half, sum, hn::LoadU(kQuadTag, grad)), kQuadTag, grad);
}

/// Of any profile: the rows of the table that differ from the token's own in a bit.
HWY_INLINE void bit_gradient_by_rows(CodeLayout layout, const Code* codes, const std::uint8_t* mask,
                                     ConstRows x, const float* token_weights, ConstTable mixed,
                                     std::int64_t tokens, int dim, float* grad) {
  // Group by group: the table of one fits a first-level cache.
  for (int g = 0; g < layout.groups(); ++g) {
    for (std::int64_t n = 0; n < tokens; ++n) {
      if (!counts(mask, n)) continue;
      const float token_weight = token_weights == nullptr ? 1 : token_weights[n];
      const int value = layout.value(codes[n], g);
      float* group_grad = grad + n * layout.bits + std::int64_t{g} * layout.group_bits;
      int r = 0;
      for (; r + kQuad <= layout.width(g); r += kQuad) {
        add_quad_gradient(mixed, layout.first_row(g), value, r, x[n], token_weight, dim,
                          group_grad + r);
      }
      for (; r < layout.width(g); ++r) {
        const std::int64_t own = layout.first_row(g) + value;
        const std::int64_t flipped = own ^ std::int64_t{1} << r;
        float sum = token_weight * (mixed.weights[own] - mixed.weights[flipped]);
        for (int i = 0; i < dim; ++i) {
          sum += x[n][i] * (mixed.values[own * dim + i] - mixed.values[flipped * dim + i]);
        }
        group_grad[r] += (value >> r & 1) != 0 ? 0.5F * sum : -0.5F * sum;
      }
    }
  }
}

/// steps[d, r] = half of what setting bit r adds to channel d of a row, the weight at d = D: with a
/// linear profile the same whatever the other bits are. [D + 1, b].
HWY_INLINE void linear_steps(CodeLayout layout, ConstTable mixed, int dim, float* steps) {
  for (int r = 0; r < layout.bits; ++r) {
    const int g = r / layout.group_bits;
    const std::int64_t clear = layout.first_row(g);
    const std::int64_t set = clear + (std::int64_t{1} << r % layout.group_bits);
    for (int d = 0; d < dim; ++d) {
      steps[d * layout.bits + r] =
          0.5F * (mixed.values[set * dim + d] - mixed.values[clear * dim + d]);
    }
    steps[dim * layout.bits + r] = 0.5F * (mixed.weights[set] - mixed.weights[clear]);
  }
}

/// What the sums over a token's channels and steps read, and where they go.
struct StepSums {
  const std::uint8_t* mask;
  ConstRows x;
  const float* token_weights;
  const float* steps;
  std::int64_t bits;
  float* grad;
};

/// Adds to the bits r .. of tokens n .. n + kCount - 1; one lane is one bit.
template <int kCount, class D>
HWY_INLINE void add_steps(D d, const StepSums& p, std::int64_t n, std::int64_t r, int dim) {
  hn::Vec<D> sum[kCount];
  const auto weight_step = hn::LoadU(d, p.steps + dim * p.bits + r);
  for (int k = 0; k < kCount; ++k) {
    sum[k] = p.token_weights == nullptr ? weight_step
                                        : hn::Mul(hn::Set(d, p.token_weights[n + k]), weight_step);
  }
  for (int c = 0; c < dim; ++c) {
    const auto step = hn::LoadU(d, p.steps + c * p.bits + r);
    for (int k = 0; k < kCount; ++k) {
      sum[k] = hn::MulAdd(hn::Set(d, p.x[n + k][c]), step, sum[k]);
    }
  }
  for (int k = 0; k < kCount; ++k) {
    if (!counts(p.mask, n + k)) continue;
    float* grad = p.grad + (n + k) * p.bits + r;
    hn::StoreU(hn::Add(hn::LoadU(d, grad), sum[k]), d, grad);
  }
}

/// Of a linear profile: codes do not matter.
HWY_INLINE void bit_gradient_by_steps(const StepSums& sums, std::int64_t tokens, int dim) {
  constexpr int kTokens = 8;  // enough sums to hide the latency of a multiply-add
  for_lanes(kF32, 0, sums.bits, [&](auto d, std::int64_t r) HWY_ATTR {
    std::int64_t n = 0;
    for (; n + kTokens <= tokens; n += kTokens) add_steps<kTokens>(d, sums, n, r, dim);
    for (; n < tokens; ++n) add_steps<1>(d, sums, n, r, dim);
  });
}

void bit_gradient(CodeLayout layout, Profile::Kind kind, const Code* codes,
                  const std::uint8_t* mask, ConstRows x, const float* token_weights,
                  ConstTable mixed, std::int64_t tokens, int any_dim, float* grad, float* scratch) {
  const bool linear = kind == Profile::Kind::kLinear;
  if (linear) linear_steps(layout, mixed, any_dim, scratch);
  with_dim(any_dim, [&](auto constant_dim) HWY_ATTR {
    const int dim = constant_dim.or_else(any_dim);
    if (linear) {
      bit_gradient_by_steps({mask, x, token_weights, scratch, layout.bits, grad}, tokens, dim);
    } else {
      bit_gradient_by_rows(layout, codes, mask, x, token_weights, mixed, tokens, dim, grad);
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ecoformer::kernels
HWY_AFTER_NAMESPACE();

#endif  // ECOFORMER_KERNELS_TABLES_INL_H_
