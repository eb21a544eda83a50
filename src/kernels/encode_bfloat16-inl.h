// Tokens to codes with products in bfloat16 on Intel's matrix tiles (AMX); see encode.h for the
// formulas. Here a row is one token and lanes are channels, supports or bits, as the tiles want it:
// nothing is transposed. A block of kTileBlock tokens takes one step after another, because a tile
// is loaded from the cache and would wait for stores that are still on their way.

#if defined(ECOFORMER_KERNELS_ENCODE_BFLOAT16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ECOFORMER_KERNELS_ENCODE_BFLOAT16_INL_H_
#undef ECOFORMER_KERNELS_ENCODE_BFLOAT16_INL_H_
#else
#define ECOFORMER_KERNELS_ENCODE_BFLOAT16_INL_H_
#endif

#include <cstring>

#include "kernels/amx.h"
#include "kernels/encode-inl.h"

#if ECO_AMX && HWY_TARGET == HWY_AVX3

#include <immintrin.h>

// In place of HWY_BEFORE_NAMESPACE: of two attributes, clang would see one.
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16,amx-tile,amx-bf16")
namespace ecoformer::kernels {
namespace HWY_NAMESPACE {
namespace {

/// The shape of all eight tiles: kTileRows rows of 64 bytes.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t reserved[15] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// The first `count` of 16 floats, zeros for the others.
HWY_INLINE VF load_some(const float* p, std::int64_t count) {
  if (count >= kLanes) return hn::LoadU(kF32, p);
  if (count <= 0) return hn::Zero(kF32);
  return hn::MaskedLoad(hn::FirstN(kF32, static_cast<std::size_t>(count)), kF32, p);
}

/// 32 numbers as bfloat16: the space of 16 floats.
HWY_INLINE void store_bfloat16(VF first, VF second, float* out) {
  _mm512_store_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second.raw, first.raw)));
}

/// The matrix w [rows, columns], rounded, as the tiles of a right factor: tile [step][r] holds in
/// its row p, pair by pair, columns 32 step + 2 p and the next of rows 16 r to 16 r + 15.
HWY_INLINE void pack_factor(const float* w, int rows, int columns, std::int64_t steps,
                            std::int64_t row_tiles, float* out) {
  HWY_ALIGN float pairs[kLanes];
  for (std::int64_t step = 0; step < steps; ++step) {
    for (std::int64_t r = 0; r < row_tiles * kTileRows; ++r) {
      const std::int64_t rest = r < rows ? columns - 32 * step : 0;
      const float* row = w + r * columns + 32 * step;
      store_bfloat16(load_some(row, rest), load_some(row + kLanes, rest - kLanes), pairs);
      float* tile = out + (step * row_tiles + r / kTileRows) * kTileRows * kLanes;
      // Copied as bits: a pair of bfloat16 may look like a signalling NaN.
      for (std::int64_t p = 0; p < kTileRows; ++p) {
        std::memcpy(tile + p * kLanes + r % kTileRows, pairs + p, sizeof(float));
      }
    }
  }
}

/// out [tokens][16 row_tiles] = in [tokens][32 steps] times the packed factor, transposed, for
/// tokens in pairs of tiles.
HWY_INLINE void multiply_tiles(const float* in, const float* factor, std::int64_t steps,
                               std::int64_t row_tiles, std::int64_t tokens, float* out) {
  const std::int64_t in_bytes = steps * 64;
  const std::int64_t out_bytes = row_tiles * 64;
  for (std::int64_t t = 0; t < tokens; t += 2 * kTileRows) {
    for (std::int64_t r = 0; r < row_tiles; ++r) {
      _tile_zero(0);
      _tile_zero(1);
      for (std::int64_t step = 0; step < steps; ++step) {
        const float* rows = in + (t * steps + step) * kLanes;
        _tile_loadd(2, factor + (step * row_tiles + r) * kTileRows * kLanes, 64);
        _tile_loadd(3, rows, in_bytes);
        _tile_loadd(4, rows + kTileRows * steps * kLanes, in_bytes);
        _tile_dpbf16ps(0, 3, 2);
        _tile_dpbf16ps(1, 4, 2);
      }
      float* sums = out + (t * row_tiles + r) * kLanes;
      _tile_stored(0, sums, out_bytes);
      _tile_stored(1, sums + kTileRows * row_tiles * kLanes, out_bytes);
    }
  }
}

/// `rows` tokens rounded, and |x|^2 of each; beyond `count` zeros.
HWY_INLINE void round_tokens(ConstRows x, std::int64_t first, std::int64_t count, std::int64_t rows,
                             int dim, const TileScratch& scratch) {
  for (std::int64_t t = 0; t < rows; ++t) {
    VF sum = hn::Zero(kF32);
    for (std::int64_t step = 0; step < scratch.channel_steps; ++step) {
      const std::int64_t rest = t < count ? dim - 32 * step : 0;
      const float* channels = x.data + (first + t) * x.stride + 32 * step;
      const VF low = load_some(channels, rest), high = load_some(channels + kLanes, rest - kLanes);
      sum = hn::MulAdd(low, low, hn::MulAdd(high, high, sum));
      store_bfloat16(low, high, scratch.tokens + (t * scratch.channel_steps + step) * kLanes);
    }
    scratch.square[t] = hn::GetLane(hn::SumOfLanes(kF32, sum));
  }
}

/// k - mu, rounded, of two tokens at a time.
HWY_INLINE void center_kernels(std::int64_t rows, VF sharpness, const TileScratch& scratch) {
  for (std::int64_t t = 0; t < rows; t += kLanes) {
    const VF square = hn::Load(kF32, scratch.square + t);
    const VF scale = hn::Mul(hn::Div(all(1), hn::Sqrt(square)), sharpness);
    const auto none = hn::Eq(square, hn::Zero(kF32));
    hn::Store(hn::IfThenZeroElse(none, scale), kF32, scratch.scale + t);
  }
  const std::int64_t supports = 32 * scratch.support_steps;
  for (std::int64_t t = 0; t < rows; t += 2) {
    for (std::int64_t j = 0; j < supports; j += 2 * kLanes) {
      VF exponents[4] = {}, k[4] = {};
      for (std::int64_t i = 0; i < 4; ++i) {
        const std::int64_t token = t + i / 2;
        const VF dot = hn::Load(kF32, scratch.dots + token * supports + j + i % 2 * kLanes);
        // A rounded x^.s may exceed 1.
        exponents[i] = hn::Min(exponent(dot, all(scratch.scale[token]), sharpness), hn::Zero(kF32));
      }
      exp2<4>(exponents, k);
      const VF low = hn::Load(kF32, scratch.mean + j);
      const VF high = hn::Load(kF32, scratch.mean + j + kLanes);
      for (std::int64_t i = 0; i < 4; i += 2) {
        store_bfloat16(hn::Sub(k[i], low), hn::Sub(k[i + 1], high),
                       scratch.kernel + ((t + i / 2) * supports + j) / 2);
      }
    }
  }
}

void encode_bfloat16(const HashView& hash, ConstRows x, std::int64_t tokens, Code* codes,
                     float* memory) {
  const TileScratch scratch(hash.dim, hash.supports, hash.bits, memory);
  const VF sharpness = all(kLog2E / hash.bandwidth);
  pack_factor(hash.support, hash.supports, hash.dim, scratch.channel_steps,
              2 * scratch.support_steps, scratch.support);
  pack_factor(hash.weight, hash.bits, hash.supports, scratch.support_steps, scratch.bit_tiles,
              scratch.weight);
  for (std::int64_t j = 0; j < 32 * scratch.support_steps; j += kLanes) {
    hn::Store(load_some(hash.mean + j, hash.supports - j), kF32, scratch.mean + j);
  }
  const TileConfig config;
  _tile_loadconfig(&config);
  for (std::int64_t first = 0; first < tokens; first += kTileBlock) {
    const std::int64_t count = tokens - first < kTileBlock ? tokens - first : kTileBlock;
    const std::int64_t rows = (count + 2 * kTileRows - 1) / (2 * kTileRows) * (2 * kTileRows);
    round_tokens(x, first, count, rows, hash.dim, scratch);
    multiply_tiles(scratch.tokens, scratch.support, scratch.channel_steps,
                   2 * scratch.support_steps, rows, scratch.dots);
    center_kernels(rows, sharpness, scratch);
    multiply_tiles(scratch.kernel, scratch.weight, scratch.support_steps, scratch.bit_tiles, rows,
                   scratch.bits);
    for (std::int64_t t = 0; t < count; ++t) {
      Code code = 0;
      for (std::int64_t r = 0; r < scratch.bit_tiles; ++r) {
        const VF y = hn::Load(kF32, scratch.bits + (t * scratch.bit_tiles + r) * kLanes);
        const Code set = _cvtmask16_u32(hn::Gt(y, hn::Zero(kF32)).raw);
        code |= set << 16 * r;
      }
      // exp2 swallows NaN: a token that is not finite has no bit set.
      codes[first + t] = scratch.square[t] * 0 == 0 ? code : 0;
    }
  }
  _tile_release();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ecoformer::kernels
HWY_POP_ATTRIBUTES

#else

HWY_BEFORE_NAMESPACE();
namespace ecoformer::kernels {
namespace HWY_NAMESPACE {
namespace {

/// There are no tiles on this target.
void encode_bfloat16(const HashView& hash, ConstRows x, std::int64_t tokens, Code* codes,
                     float* memory) {
  HWY_NAMESPACE::encode(hash, x, tokens, codes, nullptr, nullptr, memory);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ecoformer::kernels
HWY_AFTER_NAMESPACE();

#endif  // ECO_AMX && HWY_TARGET == HWY_AVX3
#endif  // ECOFORMER_KERNELS_ENCODE_BFLOAT16_INL_H_
