// Tokens to codes and back, for one target. One lane is one token: a tile of kTile tokens, two
// vectors (one without SIMD), is transposed to [channels][kTile], so that no sum runs across lanes
// and supports, bits and weights are broadcast. The bandwidth, which needs two sums a token, reads
// rows as they lie. Tolerance class; see encode.h for the formulas.

#if defined(ECOFORMER_KERNELS_ENCODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ECOFORMER_KERNELS_ENCODE_INL_H_
#undef ECOFORMER_KERNELS_ENCODE_INL_H_
#else
#define ECOFORMER_KERNELS_ENCODE_INL_H_
#endif

#include <cstdint>

#include "ecoformer/kernels/encode.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/encode_scratch.h"
#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ecoformer::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, kMaxTile / 2>;
using U32 = hn::RebindToUnsigned<F32>;
using VF = hn::Vec<F32>;
using VU = hn::Vec<U32>;

constexpr F32 kF32;
constexpr U32 kU32;
constexpr std::int64_t kLanes = hn::MaxLanes(kF32);
/// Vectors of a tile. Two share every element of a matrix: without that, each multiply-add would
/// wait for a load.
constexpr std::int64_t kVectors = kLanes == 1 ? 1 : 2;
constexpr std::int64_t kTile = kVectors * kLanes;
static_assert(kTile <= kMaxTile);

/// The vector at `rows` of row `row` of an array [rows][kTile]; `rows` points at the tile's first
/// vector or at its second.
HWY_INLINE VF lanes(const float* rows, std::int64_t row) {
  return hn::Load(kF32, rows + row * kTile);
}
HWY_INLINE void set_lanes(float* rows, std::int64_t row, VF v) {
  hn::Store(v, kF32, rows + row * kTile);
}
HWY_INLINE VF all(float value) {
  return hn::Set(kF32, value);
}
HWY_INLINE float sum_of_lanes(VF v) {
  return hn::GetLane(hn::SumOfLanes(kF32, v));
}

// ---- Transposition ----

#if HWY_TARGET != HWY_SCALAR

/// Four floats from each of p, p + step, p + 2 step, ..., one after another.
template <class D>
HWY_INLINE hn::Vec<D> load_quads(D d, const float* p, std::int64_t step) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return hn::LoadU(d, p);
  } else {
    const hn::Half<D> half;
    const std::int64_t upper = static_cast<std::int64_t>(hn::MaxLanes(d)) / 8 * step;
    return hn::Combine(d, load_quads(half, p + upper, step), load_quads(half, p, step));
  }
}

/// The inverse of load_quads.
template <class D>
HWY_INLINE void store_quads(D d, hn::Vec<D> v, float* p, std::int64_t step) {
  if constexpr (hn::MaxLanes(d) == 4) {
    hn::StoreU(v, d, p);
  } else {
    const hn::Half<D> half;
    const std::int64_t upper = static_cast<std::int64_t>(hn::MaxLanes(d)) / 8 * step;
    store_quads(half, hn::LowerHalf(half, v), p, step);
    store_quads(half, hn::UpperHalf(half, v), p + upper, step);
  }
}

/// Transposes the 4 x 4 matrix that each 128-bit block holds in a, b, c, d.
HWY_INLINE void transpose_quads(VF& a, VF& b, VF& c, VF& d) {
  const hn::Repartition<std::uint64_t, F32> pairs;
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(kF32, a, b));
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(kF32, a, b));
  const auto cd_low = hn::BitCast(pairs, hn::InterleaveLower(kF32, c, d));
  const auto cd_high = hn::BitCast(pairs, hn::InterleaveUpper(kF32, c, d));
  a = hn::BitCast(kF32, hn::InterleaveLower(pairs, ab_low, cd_low));
  b = hn::BitCast(kF32, hn::InterleaveUpper(pairs, ab_low, cd_low));
  c = hn::BitCast(kF32, hn::InterleaveLower(pairs, ab_high, cd_high));
  d = hn::BitCast(kF32, hn::InterleaveUpper(pairs, ab_high, cd_high));
}

#endif  // HWY_TARGET != HWY_SCALAR

/// kLanes rows of `columns` floats, `stride` apart, to one vector of [columns][kTile].
HWY_INLINE void transpose(const float* rows, std::int64_t stride, int columns, float* out) {
  int c = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; c + 4 <= columns; c += 4) {
    VF v0 = load_quads(kF32, rows + c, 4 * stride);
    VF v1 = load_quads(kF32, rows + stride + c, 4 * stride);
    VF v2 = load_quads(kF32, rows + 2 * stride + c, 4 * stride);
    VF v3 = load_quads(kF32, rows + 3 * stride + c, 4 * stride);
    transpose_quads(v0, v1, v2, v3);
    set_lanes(out, c, v0);
    set_lanes(out, c + 1, v1);
    set_lanes(out, c + 2, v2);
    set_lanes(out, c + 3, v3);
  }
#endif
  for (; c < columns; ++c) {
    for (int t = 0; t < kLanes; ++t) out[c * kTile + t] = rows[t * stride + c];
  }
}

/// One vector of [columns][kTile] to kLanes rows of `columns` floats, `stride` apart.
HWY_INLINE void transpose_back(const float* in, int columns, float* rows, std::int64_t stride) {
  int c = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; c + 4 <= columns; c += 4) {
    VF v0 = lanes(in, c);
    VF v1 = lanes(in, c + 1);
    VF v2 = lanes(in, c + 2);
    VF v3 = lanes(in, c + 3);
    transpose_quads(v0, v1, v2, v3);
    store_quads(kF32, v0, rows + c, 4 * stride);
    store_quads(kF32, v1, rows + stride + c, 4 * stride);
    store_quads(kF32, v2, rows + 2 * stride + c, 4 * stride);
    store_quads(kF32, v3, rows + 3 * stride + c, 4 * stride);
  }
#endif
  for (; c < columns; ++c) {
    for (int t = 0; t < kLanes; ++t) rows[t * stride + c] = in[c * kTile + t];
  }
}

// ---- Tiles ----

/// The tokens first .. first + count - 1 of one vector; count is kLanes but at the end of the
/// sequence, beyond which it is 0.
struct Part {
  std::int64_t first;
  int count;
};

HWY_INLINE Part part_at(std::int64_t first, std::int64_t tokens) {
  const std::int64_t rest = tokens > first ? tokens - first : 0;
  return {first, static_cast<int>(rest < kLanes ? rest : kLanes)};
}

/// The part's rows, transposed; lanes without a token are 0.
HWY_NOINLINE void load_part(ConstRows rows, Part part, int columns, float* out, float* spare) {
  if (part.count == kLanes) {
    transpose(rows[part.first], rows.stride, columns, out);
    return;
  }
  for (int t = 0; t < kLanes; ++t) {
    for (int c = 0; c < columns; ++c) {
      spare[t * columns + c] = t < part.count ? rows[part.first + t][c] : 0;
    }
  }
  transpose(spare, columns, columns, out);
}

/// The inverse of load_part; lanes without a token are dropped.
HWY_NOINLINE void store_part(const float* in, Part part, int columns, Rows rows, float* spare) {
  if (part.count == kLanes) {
    transpose_back(in, columns, rows[part.first], rows.stride);
    return;
  }
  transpose_back(in, columns, spare, columns);
  for (int t = 0; t < part.count; ++t) {
    for (int c = 0; c < columns; ++c) rows[part.first + t][c] = spare[t * columns + c];
  }
}

/// Asks for the rows of the next tile, a line a call, while this one is computed. Asking for all at
/// once would wait, as a core has only some dozen lines under way; and the processor by itself does
/// not look beyond the end of a page, of which a tile of 32 tokens and channels takes one.
///
/// Behind the last token it goes on: what lies there is what the caller's next call begins with, or
/// does no harm, as asking cannot fail. Hence addresses, not pointers.
class NextTile {
 public:
  /// The tile that follows the one of token `first`.
  HWY_INLINE NextTile(ConstRows rows, int columns, std::int64_t first)
      : line_(reinterpret_cast<std::uintptr_t>(rows[first]) + bytes(kTile * rows.stride)),
        row_end_(line_ + bytes(columns)),
        stride_(bytes(rows.stride)),
        skip_(stride_ - (bytes(columns) + kLine - 1) / kLine * kLine) {}

  HWY_INLINE void operator()() {
    if (line_ >= row_end_) {
      if (rows_behind_ == 0) return;
      --rows_behind_;
      line_ += skip_;
      row_end_ += stride_;
    }
    hwy::Prefetch(reinterpret_cast<const float*>(line_));  // NOLINT(performance-no-int-to-ptr)
    line_ += kLine;
  }

 private:
  static constexpr std::uintptr_t kLine = 64;
  static constexpr std::uintptr_t bytes(std::int64_t floats) {
    return static_cast<std::uintptr_t>(floats) * sizeof(float);
  }

  std::uintptr_t line_;
  std::uintptr_t row_end_;
  std::uintptr_t stride_;
  std::uintptr_t skip_;  ///< from behind a row's last line to the next row, modulo 2^64
  std::int64_t rows_behind_ = kTile - 1;
};

/// sum_d a[d] b[d] in every lane. Four sums, of which each waits for its own additions only.
HWY_INLINE VF dot(const float* a, const float* b, int dim) {
  VF sum[4] = {hn::Zero(kF32), hn::Zero(kF32), hn::Zero(kF32), hn::Zero(kF32)};
  int d = 0;
  for (; d + 4 <= dim; d += 4) {
    for (int i = 0; i < 4; ++i) sum[i] = hn::MulAdd(lanes(a, d + i), lanes(b, d + i), sum[i]);
  }
  for (; d < dim; ++d) sum[0] = hn::MulAdd(lanes(a, d), lanes(b, d), sum[0]);
  return hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
}

/// |x|^2 and 1 / |x| of each token; 1 / |x| is 0 for a zero token. Arrays of it are written with an
/// initialiser: the constructor that the compiler adds for others lacks the target's attribute, and
/// g++ refuses to inline NEON's vectors into it.
struct Norm {
  VF square;
  VF inverse;
};

/// 1 / |x| from |x|^2; 0 for 0.
template <class D>
HWY_INLINE hn::Vec<D> inverse_norm(D d, hn::Vec<D> square) {
  const auto inverse = hn::Div(hn::Set(d, 1), hn::Sqrt(square));
  return hn::IfThenZeroElse(hn::Eq(square, hn::Zero(d)), inverse);
}

HWY_INLINE Norm norm_of(const float* channels, int dim) {
  const VF square = dot(channels, channels, dim);
  return {square, inverse_norm(kF32, square)};
}

// ---- Products ----

/// A matrix that is read by rows or, with the strides swapped, by columns.
struct Matrix {
  const float* data;
  int rows;
  int columns;
  std::int64_t row_stride;
  std::int64_t column_stride;
};

HWY_INLINE Matrix by_rows(const float* data, int rows, int columns) {
  return {data, rows, columns, columns, 1};
}
HWY_INLINE Matrix by_columns(const float* data, int rows, int columns) {
  return {data, columns, rows, 1, columns};
}

/// Rows of a matrix that are summed at once: enough sums to hide the latency of a multiply-add and
/// few loads beside each, as many as the vector registers hold beside a column of the tile and the
/// element: 16 registers on x86, 32 on AVX-512. The 32 of NEON hold as many, but 8 rows are enough.
constexpr int kMaxBlock = !HWY_ARCH_X86 || kVectors == 1 ? 8 : kLanes == kMaxTile / 2 ? 13 : 6;

/// multiply for the rows first .. first + kRows - 1, their sums in registers.
template <int kRows, class BeforeColumn>
HWY_INLINE void multiply_rows(Matrix w, int first, const float* in, const VF* start, float* out,
                              BeforeColumn& before_column) {
  VF sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = start[v];
  }
  const float* HWY_RESTRICT column = w.data + first * w.row_stride;
  for (int c = 0; c < w.columns; ++c, column += w.column_stride) {
    before_column();
    VF x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = lanes(in + v * kLanes, c);
    for (int r = 0; r < kRows; ++r) {
      const VF element = all(column[r * w.row_stride]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(element, x[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) set_lanes(out + v * kLanes, first + r, sum[r][v]);
  }
}

template <int kRows, class BeforeColumn>
HWY_INLINE void multiply_block(Matrix w, int rows, int first, const float* in, const VF* start,
                               float* out, BeforeColumn& before_column) {
  if (rows == kRows) {
    multiply_rows<kRows>(w, first, in, start, out, before_column);
  } else if constexpr (kRows > 1) {
    multiply_block<kRows - 1>(w, rows, first, in, start, out, before_column);
  }
}

struct Nothing {
  HWY_INLINE void operator()() const {}
};

/// out[r] = start + sum_c w[r, c] in[c] in every lane of the tile; `start` holds kVectors vectors.
template <class BeforeColumn = Nothing>
HWY_NOINLINE void multiply(Matrix w, const float* in, const VF* start, float* out,
                           BeforeColumn before_column = {}) {
  for (int first = 0; first < w.rows;) {
    const int rest = w.rows - first;
    const int blocks = (rest + kMaxBlock - 1) / kMaxBlock;
    const int rows = (rest + blocks - 1) / blocks;  // of even size, so that none is starved
    multiply_block<kMaxBlock>(w, rows, first, in, start, out, before_column);
    first += rows;
  }
}

/// The same from zero.
template <class BeforeColumn = Nothing>
HWY_INLINE void multiply(Matrix w, const float* in, float* out, BeforeColumn before_column = {}) {
  VF zero[kVectors];
  for (auto& each : zero) each = hn::Zero(kF32);
  multiply(w, in, zero, out, before_column);
}

// ---- Bits ----

/// codes[t] = the bits r for which is_set(y[r]) holds in lane t.
template <class IsSet>
HWY_INLINE void pack_bits(const float* y, int bits, Part part, Code* codes, IsSet is_set) {
  HWY_ALIGN std::uint32_t words[2][kLanes];
  for (int half = 0; half < 2; ++half) {
    VU word = hn::Zero(kU32);
    for (int r = 32 * half; r < bits && r < 32 * half + 32; ++r) {
      const auto set = hn::RebindMask(kU32, is_set(lanes(y, r)));
      word = hn::Or(word, hn::IfThenElseZero(set, hn::Set(kU32, std::uint32_t{1} << (r % 32))));
    }
    hn::Store(word, kU32, words[half]);
  }
  for (int t = 0; t < part.count; ++t) {
    codes[part.first + t] = words[0][t] | static_cast<Code>(words[1][t]) << 32;
  }
}

/// Sets y[r] to 0 in the lanes whose code has bit r cleared.
HWY_INLINE void clear_where_unset(const Code* codes, Part part, int bits, float* y) {
  HWY_ALIGN std::uint32_t words[2][kLanes] = {};
  for (int t = 0; t < part.count; ++t) {
    words[0][t] = static_cast<std::uint32_t>(codes[part.first + t]);
    words[1][t] = static_cast<std::uint32_t>(codes[part.first + t] >> 32);
  }
  for (int r = 0; r < bits; ++r) {
    const VU bit = hn::Set(kU32, std::uint32_t{1} << (r % 32));
    const auto set = hn::TestBit(hn::Load(kU32, words[r / 32]), bit);
    set_lanes(y, r, hn::IfThenElseZero(hn::RebindMask(kF32, set), lanes(y, r)));
  }
}

// ---- The functions of encode.h ----

constexpr float kLog2E = 1.44269504F;
constexpr float kLn2 = 0.693147181F;

/// t with k = exp(-|x^ - s|^2 / (2 sigma)) = 2^t, from x.s; `sharpness` is log2(e) / sigma, `scale`
/// that divided by |x|.
HWY_INLINE VF exponent(VF dot, VF scale, VF sharpness) {
  return hn::MulSub(dot, scale, sharpness);
}

/// power[i] = 2^t[i] for t <= 1; what would be below 2^-126 is that. Relative error at most 2e-7:
/// t = n + f with |f| <= 1/2, 2^f by the polynomial of degree 5 with the smallest largest relative
/// error (9e-8 and the rounding of its sums), n added to the exponent. A general Exp takes twice as
/// long. Each is a chain of a dozen operations; side by side they hide one another's latency, which
/// the processor's window over the instructions is too small to do.
template <int kCount>
HWY_INLINE void exp2(const VF* t, VF* power) {
  // 1.5 2^23: a sum with it has no fraction, and n in its low bits.
  const VF shift = all(12582912.0F);
  VF f[kCount] = {}, shifted[kCount] = {};
  for (int i = 0; i < kCount; ++i) f[i] = hn::Max(t[i], all(-126));
  for (int i = 0; i < kCount; ++i) shifted[i] = hn::Add(f[i], shift);
  for (int i = 0; i < kCount; ++i) f[i] = hn::Sub(f[i], hn::Sub(shifted[i], shift));
  for (int i = 0; i < kCount; ++i) power[i] = all(0x1.5bba14p-10F);
  for (const float coefficient :
       {0x1.3cea88p-7F, 0x1.c6b752p-5F, 0x1.ebf9bcp-3F, 0x1.62e42ap-1F, 1.0F}) {
    for (int i = 0; i < kCount; ++i) power[i] = hn::MulAdd(power[i], f[i], all(coefficient));
  }
  for (int i = 0; i < kCount; ++i) {
    const VU n = hn::ShiftLeft<23>(hn::BitCast(kU32, shifted[i]));
    power[i] = hn::BitCast(kF32, hn::Add(hn::BitCast(kU32, power[i]), n));
  }
}

/// Supports whose exponentials are taken at once: four chains.
constexpr int kSupportsAtOnce = static_cast<int>(4 / kVectors);

/// t and k of kRows supports, all vectors of the tile.
template <int kRows>
struct KernelRows {
  VF t[kRows * kVectors];
  VF k[kRows * kVectors];
};

/// Those of the supports from `first` on; `dots` holds x.s, [m][kTile].
template <int kRows>
HWY_INLINE KernelRows<kRows> kernel_rows(const float* dots, int first, const VF* scale,
                                         VF sharpness) {
  KernelRows<kRows> rows = {};
  for (std::int64_t i = 0; i < kRows * kVectors; ++i) {
    const std::int64_t v = i % kVectors;
    rows.t[i] = exponent(lanes(dots + v * kLanes, first + i / kVectors), scale[v], sharpness);
  }
  exp2<kRows * kVectors>(rows.t, rows.k);
  return rows;
}

/// In place: x.s of the supports from `first` on to k - mu.
template <int kRows>
HWY_INLINE void center_kernel(const float* mean, int first, const VF* scale, VF sharpness,
                              float* kernel) {
  const KernelRows<kRows> rows = kernel_rows<kRows>(kernel, first, scale, sharpness);
  for (std::int64_t i = 0; i < kRows * kVectors; ++i) {
    const std::int64_t j = first + i / kVectors;
    set_lanes(kernel + i % kVectors * kLanes, j, hn::Sub(rows.k[i], all(mean[j])));
  }
}

/// In place: dL/dk of the supports from `first` on to dL/dk k / sigma, and dL/dk k t taken from
/// `along_sigma`. With k = 2^t, t = (x^.s - 1) log2(e) / sigma: dk/dx^ = k s / sigma and
/// dk/dsigma = -k t ln(2) / sigma.
template <int kRows>
HWY_INLINE void through_kernel(const float* dots, int first, const VF* scale, VF sharpness,
                               VF inverse_sigma, float* kernel_grad, VF* along_sigma) {
  const KernelRows<kRows> rows = kernel_rows<kRows>(dots, first, scale, sharpness);
  for (std::int64_t i = 0; i < kRows * kVectors; ++i) {
    const std::int64_t j = first + i / kVectors, v = i % kVectors;
    float* grads = kernel_grad + v * kLanes;
    const VF grad = hn::Mul(lanes(grads, j), rows.k[i]);
    along_sigma[v] = hn::NegMulAdd(grad, rows.t[i], along_sigma[v]);
    set_lanes(grads, j, hn::Mul(grad, inverse_sigma));
  }
}

/// In place: dL/dx^ to dL/dx = (u - (u.x^) x^) / |x|.
HWY_INLINE void through_normalisation(const float* channels, const Norm& norm, int dim, float* u) {
  const VF along = dot(u, channels, dim);
  const VF radial = hn::Mul(hn::Mul(along, norm.inverse), norm.inverse);
  for (int d = 0; d < dim; ++d) {
    const VF tangent = hn::NegMulAdd(radial, lanes(channels, d), lanes(u, d));
    set_lanes(u, d, hn::Mul(tangent, norm.inverse));
  }
}

void encode(const HashView& hash, ConstRows x, std::int64_t tokens, Code* codes, float* projection,
            Code* window, float* memory) {
  const EncodeScratch scratch(hash.dim, hash.supports, hash.bits, memory);
  const VF sharpness = all(kLog2E / hash.bandwidth);
  for (std::int64_t first = 0; first < tokens; first += kTile) {
    Norm norm[kVectors] = {};
    for (int v = 0; v < kVectors; ++v) {
      load_part(x, part_at(first + v * kLanes, tokens), hash.dim, scratch.channels + v * kLanes,
                scratch.spare);
    }
    for (int v = 0; v < kVectors; ++v) norm[v] = norm_of(scratch.channels + v * kLanes, hash.dim);

    multiply(by_rows(hash.support, hash.supports, hash.dim), scratch.channels, scratch.kernel,
             NextTile(x, hash.dim, first));
    VF scale[kVectors], start[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      scale[v] = hn::Mul(norm[v].inverse, sharpness);
      // exp2 swallows NaN. Starting the sums from 0 |x|^2 keeps it: such a token has no bit set.
      start[v] = hn::Mul(norm[v].square, hn::Zero(kF32));
    }
    int j = 0;
    for (; j + kSupportsAtOnce <= hash.supports; j += kSupportsAtOnce) {
      center_kernel<kSupportsAtOnce>(hash.mean, j, scale, sharpness, scratch.kernel);
    }
    for (; j < hash.supports; ++j) {
      center_kernel<1>(hash.mean, j, scale, sharpness, scratch.kernel);
    }
    multiply(by_rows(hash.weight, hash.bits, hash.supports), scratch.kernel, start, scratch.bits);

    for (int v = 0; v < kVectors; ++v) {
      const Part part = part_at(first + v * kLanes, tokens);
      const float* bits = scratch.bits + v * kLanes;
      pack_bits(bits, hash.bits, part, codes,
                [](VF y) HWY_ATTR { return hn::Gt(y, hn::Zero(kF32)); });
      if (window != nullptr) {
        pack_bits(bits, hash.bits, part, window,
                  [](VF y) HWY_ATTR { return hn::Lt(hn::Abs(y), all(1)); });
      }
      if (projection != nullptr) {
        store_part(bits, part, hash.bits, {projection, hash.bits}, scratch.spare);
      }
    }
  }
}

/// sum_j s_j, to `sum` [D].
HWY_INLINE void sum_supports(const float* support, int supports, int dim, float* sum) {
  for_lanes(kF32, 0, dim, [&](auto d, std::int64_t i) HWY_ATTR {
    auto total = hn::Zero(d);
    for (int j = 0; j < supports; ++j) {
      total = hn::Add(total, hn::LoadU(d, support + std::int64_t{j} * dim + i));
    }
    hn::StoreU(total, d, sum + i);
  });
}

/// Of each of four tokens, one a lane: |x|^2 and x.s.
struct QuadProducts {
  QuadVector square;
  QuadVector along;
};

/// Those of the tokens from n on; behind the last it is repeated.
HWY_INLINE QuadProducts products_at(ConstRows x, std::int64_t n, std::int64_t tokens,
                                    const float* s, int dim) {
  const float* rows[kQuad];
  for (int k = 0; k < kQuad; ++k) rows[k] = x[n + k < tokens ? n + k : tokens - 1];
  const auto add_square = [&](auto d, int i, int k, auto sum) HWY_ATTR {
    const auto channels = hn::LoadU(d, rows[k] + i);
    return hn::MulAdd(channels, channels, sum);
  };
  const auto add_along = [&](auto d, int i, int k, auto sum) HWY_ATTR {
    return hn::MulAdd(hn::LoadU(d, rows[k] + i), hn::LoadU(d, s + i), sum);
  };
  return {quad_sums(kF32, 0, dim, add_square), quad_sums(kF32, 0, dim, add_along)};
}

/// Which of the tokens from n on exist and count.
HWY_INLINE hn::Mask<Quad> counted_at(const std::uint8_t* mask, std::int64_t n,
                                     std::int64_t tokens) {
  const auto exist = hn::FirstN(kQuadTag, static_cast<std::size_t>(tokens - n));
  if (mask == nullptr) return exist;
  HWY_ALIGN float on[kQuad] = {};
  for (int k = 0; k < kQuad && n + k < tokens; ++k) on[k] = mask[n + k];
  return hn::And(exist, hn::Ne(hn::Load(kQuadTag, on), hn::Zero(kQuadTag)));
}

/// Tokens that count.
HWY_INLINE std::int64_t count_tokens(const std::uint8_t* mask, std::int64_t tokens) {
  if (mask == nullptr) return tokens;
  std::int64_t count = 0;
  for (std::int64_t n = 0; n < tokens; ++n) count += mask[n] != 0 ? 1 : 0;
  return count;
}

float mean_squared_distance(const float* support, int supports, int any_dim, ConstRows x,
                            std::int64_t tokens, const std::uint8_t* mask, float* memory) {
  const std::int64_t counted = count_tokens(mask, tokens);
  if (counted == 0) return 0;
  float* support_sum = memory;
  sum_supports(support, supports, any_dim, support_sum);
  QuadVector sum = hn::Zero(kQuadTag);
  with_dim(any_dim, [&](auto constant_dim) HWY_ATTR {
    const int dim = constant_dim.or_else(any_dim);
    for (std::int64_t n = 0; n < tokens; n += kQuad) {
      const QuadProducts products = products_at(x, n, tokens, support_sum, dim);
      const QuadVector along = hn::Mul(products.along, inverse_norm(kQuadTag, products.square));
      sum = hn::Add(sum, hn::IfThenElseZero(counted_at(mask, n, tokens), along));
    }
  });
  const double dot = hn::GetLane(hn::SumOfLanes(kQuadTag, sum));
  return static_cast<float>(2 - 2 * dot / (static_cast<double>(counted) * supports));
}

float encode_backward(const HashView& hash, ConstRows x, std::int64_t tokens, const Code* window,
                      const float* code_grad, Rows x_grad, float* memory) {
  const EncodeScratch scratch(hash.dim, hash.supports, hash.bits, memory);
  const VF inverse_sigma = all(1 / hash.bandwidth);
  const VF sharpness = all(kLog2E / hash.bandwidth);
  const ConstRows bit_grad(code_grad, hash.bits);
  double sigma_grad = 0;
  for (std::int64_t first = 0; first < tokens; first += kTile) {
    Norm norm[kVectors] = {};
    for (int v = 0; v < kVectors; ++v) {
      const Part part = part_at(first + v * kLanes, tokens);
      float* channels = scratch.channels + v * kLanes;
      load_part(x, part, hash.dim, channels, scratch.spare);
      norm[v] = norm_of(channels, hash.dim);
      float* bits = scratch.bits + v * kLanes;
      load_part(bit_grad, part, hash.bits, bits, scratch.spare);
      clear_where_unset(window, part, hash.bits, bits);
    }
    multiply(by_columns(hash.weight, hash.bits, hash.supports), scratch.bits, scratch.kernel_grad);

    multiply(by_rows(hash.support, hash.supports, hash.dim), scratch.channels, scratch.kernel);
    VF scale[kVectors], along_sigma[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      scale[v] = hn::Mul(norm[v].inverse, sharpness);
      along_sigma[v] = hn::Zero(kF32);
    }
    int j = 0;
    for (; j + kSupportsAtOnce <= hash.supports; j += kSupportsAtOnce) {
      through_kernel<kSupportsAtOnce>(scratch.kernel, j, scale, sharpness, inverse_sigma,
                                      scratch.kernel_grad, along_sigma);
    }
    for (; j < hash.supports; ++j) {
      through_kernel<1>(scratch.kernel, j, scale, sharpness, inverse_sigma, scratch.kernel_grad,
                        along_sigma);
    }
    for (const VF along : along_sigma) {
      sigma_grad += kLn2 * sum_of_lanes(hn::Mul(along, inverse_sigma));
    }

    multiply(by_columns(hash.support, hash.supports, hash.dim), scratch.kernel_grad,
             scratch.channels_grad);
    for (int v = 0; v < kVectors; ++v) {
      float* channels_grad = scratch.channels_grad + v * kLanes;
      through_normalisation(scratch.channels + v * kLanes, norm[v], hash.dim, channels_grad);
      store_part(channels_grad, part_at(first + v * kLanes, tokens), hash.dim, x_grad,
                 scratch.spare);
    }
  }
  return static_cast<float>(sigma_grad);
}

void bandwidth_backward(const float* support, int supports, int any_dim, ConstRows x,
                        std::int64_t tokens, const std::uint8_t* mask, float bandwidth_grad,
                        Rows x_grad, float* memory) {
  const std::int64_t counted = count_tokens(mask, tokens);
  if (counted == 0) return;
  float* support_sum = memory;
  sum_supports(support, supports, any_dim, support_sum);
  const QuadVector scale = hn::Set(
      kQuadTag,
      static_cast<float>(-2.0 * bandwidth_grad / (static_cast<double>(counted) * supports)));
  with_dim(any_dim, [&](auto constant_dim) HWY_ATTR {
    const int dim = constant_dim.or_else(any_dim);
    for (std::int64_t n = 0; n < tokens; n += kQuad) {
      const QuadProducts products = products_at(x, n, tokens, support_sum, dim);
      const QuadVector inverse = inverse_norm(kQuadTag, products.square);
      HWY_ALIGN float outer[kQuad];
      HWY_ALIGN float radial[kQuad];
      hn::Store(hn::Mul(scale, inverse), kQuadTag, outer);
      hn::Store(hn::Mul(hn::Mul(products.along, inverse), inverse), kQuadTag, radial);
      for (int k = 0; k < kQuad && n + k < tokens; ++k) {
        if (mask != nullptr && mask[n + k] == 0) continue;
        const float* token = x[n + k];
        float* grad = x_grad[n + k];
        for_lanes(kF32, 0, dim, [&](auto d, std::int64_t i) HWY_ATTR {
          const auto tangent = hn::NegMulAdd(hn::Set(d, radial[k]), hn::LoadU(d, token + i),
                                             hn::LoadU(d, support_sum + i));
          const auto sum = hn::MulAdd(hn::Set(d, outer[k]), tangent, hn::LoadU(d, grad + i));
          hn::StoreU(sum, d, grad + i);
        });
      }
    }
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ecoformer::kernels
HWY_AFTER_NAMESPACE();

#endif  // ECOFORMER_KERNELS_ENCODE_INL_H_
