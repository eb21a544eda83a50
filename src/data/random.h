// Draws from std::mt19937_64 with the same result everywhere, which the standard's distributions do
// not promise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

namespace ecoformer::data {

using Engine = std::mt19937_64;

/// The generator of part `part` (an epoch, an image) of whatever `seed` decides.
inline Engine engine_of(std::uint64_t seed, std::uint64_t part) {
  std::seed_seq sequence{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                         static_cast<std::uint32_t>(part), static_cast<std::uint32_t>(part >> 32)};
  return Engine(sequence);
}

/// Uniform in [0, n), n >= 1, without bias.
inline std::uint64_t uniform_below(Engine& engine, std::uint64_t n) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t limit = kMax - kMax % n;
  std::uint64_t draw = engine();
  while (draw >= limit) draw = engine();
  return draw % n;
}

/// Uniform in [0, 1), a multiple of 2^-53.
inline double uniform_unit(Engine& engine) {
  return static_cast<double>(engine() >> 11) * 0x1p-53;
}

/// A uniform permutation of `values`.
template <typename T>
void shuffle(std::vector<T>& values, Engine& engine) {
  for (std::size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[uniform_below(engine, i)]);
  }
}

}  // namespace ecoformer::data
