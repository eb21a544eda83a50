// Draws from std::mt19937_64 with the same result everywhere, which the standard's distributions do
// not promise.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <numbers>
#include <random>
#include <utility>
#include <vector>

namespace ecoformer::data {

using Engine = std::mt19937_64;

/// The engine that belongs to a key, such as (seed, epoch): other keys, of other lengths too, give
/// unrelated draws.
inline Engine engine_of(std::initializer_list<std::uint64_t> key) {
  std::vector<std::uint32_t> words;
  for (const std::uint64_t part : key) {
    words.push_back(static_cast<std::uint32_t>(part));
    words.push_back(static_cast<std::uint32_t>(part >> 32));
  }
  std::seed_seq sequence(words.begin(), words.end());
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

/// Uniform in [low, high).
inline double uniform(Engine& engine, double low, double high) {
  return low + (high - low) * uniform_unit(engine);
}

/// The exponential of a uniform draw between the logarithms of `low` and `high`.
inline double log_uniform(Engine& engine, double low, double high) {
  return std::exp(uniform(engine, std::log(low), std::log(high)));
}

/// Two independent draws from N(0, 1), by Box and Muller's transform.
inline std::pair<double, double> normal_pair(Engine& engine) {
  const double radius = std::sqrt(-2 * std::log(1 - uniform_unit(engine)));
  const double angle = 2 * std::numbers::pi * uniform_unit(engine);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// From Beta(a, a), by Johnk's rejection, which is fast for a <= 1.
inline double symmetric_beta(Engine& engine, double a) {
  while (true) {
    const double x = std::pow(uniform_unit(engine), 1 / a);
    const double y = std::pow(uniform_unit(engine), 1 / a);
    if (x + y > 0 && x + y <= 1) return x / (x + y);
  }
}

/// A uniform permutation of `values`.
template <typename T>
void shuffle(std::vector<T>& values, Engine& engine) {
  for (std::size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[uniform_below(engine, i)]);
  }
}

}  // namespace ecoformer::data
