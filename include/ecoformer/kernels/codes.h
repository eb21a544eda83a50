// The vocabulary of the kernels: packed codes, their groups, strided rows, and profiles.
//
// Everything here is plain data. Kernels take raw pointers and sizes; callers own all memory.
#pragma once

#include <cmath>
#include <cstdint>

namespace ecoformer::kernels {

/// A token's b hash bits, bit r in position r; positions from b on are 0. Bit r is [y_r > 0], so an
/// exact zero is a cleared bit (h_r = -1).
using Code = std::uint64_t;

/// How a code of `bits` bits splits into groups of `group_bits`; the last group may be narrower.
/// A table has one row for every value of every group, groups one after another.
struct CodeLayout {
  int bits;        ///< b, 1 to 64
  int group_bits;  ///< w, 4 or 8

  /// G = ceil(b / w).
  constexpr int groups() const { return (bits + group_bits - 1) / group_bits; }
  /// Bits in group g.
  constexpr int width(int g) const {
    const int rest = bits - g * group_bits;
    return rest < group_bits ? rest : group_bits;
  }
  /// Table rows of group g, 2^width(g).
  constexpr int rows(int g) const { return 1 << width(g); }
  /// The table row at which group g starts.
  constexpr std::int64_t first_row(int g) const {
    return static_cast<std::int64_t>(g) << group_bits;
  }
  /// Table rows of all groups together.
  constexpr std::int64_t total_rows() const { return first_row(groups() - 1) + rows(groups() - 1); }
  /// c[g], the value of group g in `code`.
  constexpr int value(Code code, int g) const {
    return static_cast<int>((code >> (g * group_bits)) & ((Code{1} << group_bits) - 1));
  }
};

/// N rows of D float32 channels; channels are contiguous, rows are `stride` floats apart.
struct Rows {
  float* data;
  std::int64_t stride;
  float* operator[](std::int64_t n) const { return data + n * stride; }
};

/// Rows that are only read.
struct ConstRows {
  const float* data;
  std::int64_t stride;
  ConstRows(const float* d, std::int64_t s) : data(d), stride(s) {}
  ConstRows(Rows rows) : data(rows.data), stride(rows.stride) {}  // NOLINT: a view converts freely
  const float* operator[](std::int64_t n) const { return data + n * stride; }
};

/// The weight of a query-key pair as a function of the Hamming distance d in each group,
/// weight(i, j) = sum_g profile_g(d_g); see DESIGN section "attention by table lookup".
struct Profile {
  enum class Kind {
    kLinear,       ///< profile_g(d) = width(g) - 2 d + bias / G
    kExponential,  ///< profile_g(d) = exp(-2 beta d)
  };
  Kind kind = Kind::kExponential;
  float value_bias = 0;   ///< linear: bias of the values (numerator)
  float weight_bias = 0;  ///< linear: bias of the weights (denominator)
  float self = 0;         ///< added weight of a token's own value in the numerator only
  float beta = 0;         ///< exponential: sharpness, at least 0
};

/// Equation 9 of the paper: bias 2^c, c = ceil(log2(b + 1)), on every pair.
inline Profile paper_profile(int bits) {
  float bias = 1;
  while (bias < static_cast<float>(bits) + 1) bias *= 2;
  return {.kind = Profile::Kind::kLinear, .value_bias = bias, .weight_bias = bias};
}

/// What the authors' code computes (pvt/performer.py, lines 135-147): bias b + 1 on every pair of
/// the denominator, but only on a token's own value in the numerator.
inline Profile official_profile(int bits) {
  const float bias = static_cast<float>(bits) + 1;
  return {.kind = Profile::Kind::kLinear, .weight_bias = bias, .self = bias};
}

/// Ours: positive weights without a bias, sharp for large beta.
inline Profile exponential_profile(float beta) {
  return {.kind = Profile::Kind::kExponential, .beta = beta};
}

}  // namespace ecoformer::kernels
