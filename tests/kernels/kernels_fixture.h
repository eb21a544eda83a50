// What the kernel tests share: a fixture that runs a test on every instruction set, and memory that
// notices when it is touched outside.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ecoformer/kernels/codes.h"
#include "ecoformer/kernels/targets.h"

namespace ecoformer::kernels {

/// Unit roundoff of float32; the tests' bounds are multiples of it.
inline constexpr double kUnit = 0x1p-24;

/// Runs each of its tests on the instruction set that is the parameter.
class EveryTarget : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(force_target(GetParam())); }
  void TearDown() override { ASSERT_TRUE(force_target("auto")); }
};

/// Names the instance by its target; names are letters, digits and underscores.
inline std::string target_name(const ::testing::TestParamInfo<std::string>& param) {
  return param.param;
}

/// `count` values between guards that only a write outside would change.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count, T initial = {})
      : memory_(count + 2 * kGuard, initial), count_(count) {
    std::memset(memory_.data(), kPattern, kGuard * sizeof(T));
    std::memset(data() + count, kPattern, kGuard * sizeof(T));
  }

  T* data() { return memory_.data() + kGuard; }
  const T* data() const { return memory_.data() + kGuard; }
  std::int64_t size() const { return count_; }
  T& operator[](std::int64_t i) { return data()[i]; }
  const T& operator[](std::int64_t i) const { return data()[i]; }

  bool intact() const {
    const auto* low = reinterpret_cast<const unsigned char*>(memory_.data());
    const auto* high = reinterpret_cast<const unsigned char*>(data() + count_);
    for (std::size_t i = 0; i < kGuard * sizeof(T); ++i) {
      if (low[i] != kPattern || high[i] != kPattern) return false;
    }
    return true;
  }

  bool same_bits(const Guarded& other) const {
    return count_ == other.count_ && std::memcmp(data(), other.data(), count_ * sizeof(T)) == 0;
  }

 private:
  static constexpr std::int64_t kGuard = 19;  // odd, so that vectors are unaligned
  static constexpr unsigned char kPattern = 0xA5;
  std::vector<T> memory_;
  std::int64_t count_;
};

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// N rows of D floats with a gap after each row; all NaN until written.
class StridedRows {
 public:
  StridedRows(std::int64_t count, int dim, int gap)
      : memory_(count * (dim + gap), kNan), count_(count), dim_(dim), gap_(gap) {}

  Rows rows() { return {memory_.data(), dim_ + gap_}; }
  float* operator[](std::int64_t n) { return memory_.data() + n * (dim_ + gap_); }
  const float* operator[](std::int64_t n) const { return memory_.data() + n * (dim_ + gap_); }
  std::int64_t count() const { return count_; }

  /// Nothing but the rows was written.
  bool intact() const {
    for (std::int64_t n = 0; n < count_; ++n) {
      for (int i = dim_; i < dim_ + gap_; ++i) {
        if ((*this)[n][i] == (*this)[n][i]) return false;
      }
    }
    return memory_.intact();
  }

 private:
  Guarded<float> memory_;
  std::int64_t count_;
  int dim_;
  int gap_;
};

/// Seeded numbers for tests.
class Random {
 public:
  explicit Random(unsigned seed) : generator_(seed) {}

  /// Nearly normal, mean 0 and variance 1: the scaled sum of four numbers of 16 bits. Up to the
  /// multiplication by sqrt(3) / 65536 all is exact, so every machine draws the same floats, which
  /// std::normal_distribution does not promise.
  float normal() {
    std::int64_t sum = std::int64_t{-2} * 0xFFFF;
    for (int i = 0; i < 2; ++i) {
      const std::uint32_t draw = generator_();
      sum += (draw >> 16) + (draw & 0xFFFF);
    }
    return static_cast<float>(sum) * 0x1.bb67aep-16F;
  }
  Code code(int bits) {
    const Code high = generator_();
    return (high << 32 | generator_()) >> (64 - bits);
  }
  bool coin() { return generator_() % 2 == 1; }

  void fill(Guarded<float>& values) {
    for (std::int64_t i = 0; i < values.size(); ++i) values[i] = normal();
  }
  StridedRows rows(std::int64_t count, int dim, int gap) {
    StridedRows rows(count, dim, gap);
    for (std::int64_t n = 0; n < count; ++n) {
      for (int d = 0; d < dim; ++d) rows[n][d] = normal();
    }
    return rows;
  }
  std::vector<Code> codes(std::int64_t count, int bits) {
    std::vector<Code> codes(count);
    for (Code& each : codes) each = code(bits);
    return codes;
  }
  std::vector<std::uint8_t> mask(std::int64_t count) {
    std::vector<std::uint8_t> mask(count);
    for (std::uint8_t& each : mask) each = coin() ? 1 : 0;
    return mask;
  }

 private:
  std::mt19937 generator_;
};

}  // namespace ecoformer::kernels
