// How encode's functions divide the caller's scratch. The same for every target, sized for the
// widest.
#pragma once

#include <cstdint>

namespace ecoformer::kernels {

/// Tokens of the largest tile: two of the widest vectors.
constexpr int kMaxTile = 32;

/// Arrays [rows][kMaxTile], each aligned to kMaxTile floats.
struct EncodeScratch {
  float* channels;       ///< [D], the tile's tokens
  float* channels_grad;  ///< [D]
  float* unit_grad;      ///< [D]
  float* kernel;         ///< [m]
  float* kernel_grad;    ///< [m]
  float* bits;           ///< [b]
  float* spare;          ///< [max(D, b)], rows of a tile that is not full

  EncodeScratch(std::int64_t dim, std::int64_t supports, std::int64_t bit_count, float* memory) {
    constexpr std::uintptr_t kAlignment = kMaxTile * sizeof(float);
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(memory);
    channels = memory + (kAlignment - address % kAlignment) % kAlignment / sizeof(float);
    channels_grad = channels + kMaxTile * dim;
    unit_grad = channels_grad + kMaxTile * dim;
    kernel = unit_grad + kMaxTile * dim;
    kernel_grad = kernel + kMaxTile * supports;
    bits = kernel_grad + kMaxTile * supports;
    spare = bits + kMaxTile * bit_count;
  }

  /// Floats from `memory` on, with room to align.
  static std::int64_t floats(std::int64_t dim, std::int64_t supports, std::int64_t bit_count) {
    const std::int64_t spare_rows = dim > bit_count ? dim : bit_count;
    return kMaxTile * (3 * dim + 2 * supports + bit_count + spare_rows + 1);
  }
};

}  // namespace ecoformer::kernels
