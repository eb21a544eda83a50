// How encode's functions divide the caller's scratch. The same for every target, sized for the
// widest.
#pragma once

#include <cstdint>

namespace ecoformer::kernels {

/// Tokens of the largest tile: two of the widest vectors.
constexpr int kMaxTile = 32;

/// Room for arrays [rows][kMaxTile], each aligned to kMaxTile floats.
struct EncodeScratch {
  float* channels;       ///< [D], the tile's tokens
  float* channels_grad;  ///< [D]
  float* kernel;         ///< [m]
  float* kernel_grad;    ///< [m]
  float* bits;           ///< [b]
  float* spare;          ///< [max(D, b)], rows of a tile that is not full

  EncodeScratch(std::int64_t dim, std::int64_t supports, std::int64_t bit_count, float* memory) {
    constexpr std::uintptr_t kAlignment = kMaxTile * sizeof(float);
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(memory);
    channels = memory + (kAlignment - address % kAlignment) % kAlignment / sizeof(float);
    channels_grad = channels + kMaxTile * dim;
    kernel = channels_grad + kMaxTile * dim;
    kernel_grad = kernel + kMaxTile * supports;
    bits = kernel_grad + kMaxTile * supports;
    spare = bits + kMaxTile * bit_count;
  }

  /// Floats from `memory` on, with room to align.
  static std::int64_t floats(std::int64_t dim, std::int64_t supports, std::int64_t bit_count) {
    const std::int64_t spare_rows = dim > bit_count ? dim : bit_count;
    return kMaxTile * (2 * dim + 2 * supports + bit_count + spare_rows + 1);
  }
};

/// Tokens that encode in bfloat16 takes at once, and rows of one of AMX's matrix tiles, each of
/// which holds 32 bfloat16 or 16 float32.
constexpr std::int64_t kTileBlock = 64;
constexpr std::int64_t kTileRows = 16;

/// Arrays of whole tiles: what is summed over is padded to steps of 32, what is not to 16.
struct TileScratch {
  std::int64_t channel_steps;  ///< of 32 channels
  std::int64_t support_steps;  ///< of 32 supports
  std::int64_t bit_tiles;      ///< of 16 bits
  float* support;              ///< bfloat16 [channel_steps][2 support_steps] tiles
  float* weight;               ///< bfloat16 [support_steps][bit_tiles] tiles
  float* mean;                 ///< [32 support_steps]
  float* tokens;               ///< bfloat16 [kTileBlock][32 channel_steps]
  float* square;               ///< [kTileBlock]
  float* scale;                ///< [kTileBlock]
  float* dots;                 ///< [kTileBlock][32 support_steps]
  float* kernel;               ///< bfloat16 [kTileBlock][32 support_steps]
  float* bits;                 ///< [kTileBlock][16 bit_tiles]

  TileScratch(std::int64_t dim, std::int64_t supports, std::int64_t bit_count, float* memory)
      : channel_steps((dim + 31) / 32),
        support_steps((supports + 31) / 32),
        bit_tiles((bit_count + 15) / 16) {
    constexpr std::uintptr_t kAlignment = 64;
    constexpr std::int64_t kTileFloats = kTileRows * 16;
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(memory);
    support = memory + (kAlignment - address % kAlignment) % kAlignment / sizeof(float);
    weight = support + 2 * channel_steps * support_steps * kTileFloats;
    mean = weight + support_steps * bit_tiles * kTileFloats;
    tokens = mean + 32 * support_steps;
    square = tokens + kTileBlock * 16 * channel_steps;
    scale = square + kTileBlock;
    dots = scale + kTileBlock;
    kernel = dots + kTileBlock * 32 * support_steps;
    bits = kernel + kTileBlock * 16 * support_steps;
  }

  /// Floats from `memory` on, with room to align.
  static std::int64_t floats(std::int64_t dim, std::int64_t supports, std::int64_t bit_count) {
    const std::int64_t channel_steps = (dim + 31) / 32;
    const std::int64_t support_steps = (supports + 31) / 32;
    const std::int64_t bit_tiles = (bit_count + 15) / 16;
    const std::int64_t tiles = support_steps * (2 * channel_steps + bit_tiles);
    const std::int64_t a_token = 16 * channel_steps + 48 * support_steps + 16 * bit_tiles + 2;
    return kTileRows * 16 * tiles + 32 * support_steps + kTileBlock * a_token + 16;
  }
};

}  // namespace ecoformer::kernels
