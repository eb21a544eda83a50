// encode.h on every instruction set against the scalar reference and against numeric derivatives.

#include "ecoformer/kernels/encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "ecoformer/kernels/reference.h"
#include "kernels/kernels_fixture.h"

namespace ecoformer::kernels {
namespace {

struct Shape {
  std::int64_t tokens;
  int dim;
  int supports;
  int bits;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << "N=" << shape.tokens << " D=" << shape.dim << " m=" << shape.supports
             << " b=" << shape.bits;
}

/// Each N, D, m and b that could go wrong, not each combination.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const std::int64_t tokens : {0, 1, 2, 3, 7, 8, 15, 16, 17, 33, 65, 197}) {
    all.push_back({tokens, 32, 25, 16});
    all.push_back({tokens, 3, 5, 9});
  }
  for (const int dim : {1, 3, 8, 16, 31, 32, 33, 64}) {
    for (const int supports : {1, 5, 25, 26}) all.push_back({33, dim, supports, 8});
  }
  for (const int bits : {1, 4, 7, 8, 9, 16, 31, 33, 63, 64}) {
    all.push_back({17, 16, 25, bits});
    all.push_back({21, 8, 26, bits});
  }
  return all;
}

/// A random hash function with all memory between guards.
struct Hash {
  Hash(const Shape& shape, Random& random)
      : support(std::int64_t{shape.supports} * shape.dim),
        mean(shape.supports),
        weight(std::int64_t{shape.bits} * shape.supports),
        scratch(encode_scratch_floats(shape.dim, shape.supports, shape.bits), kNan),
        view{.dim = shape.dim,
             .supports = shape.supports,
             .bits = shape.bits,
             .support = support.data(),
             .mean = mean.data(),
             .weight = weight.data(),
             .bandwidth = 0.9F} {
    for (int j = 0; j < shape.supports; ++j) {
      double square = 0;
      float* s = support.data() + std::int64_t{j} * shape.dim;
      for (int d = 0; d < shape.dim; ++d) {
        s[d] = random.normal();
        square += static_cast<double>(s[d]) * s[d];
      }
      for (int d = 0; d < shape.dim; ++d) s[d] = static_cast<float>(s[d] / std::sqrt(square));
      mean[j] = 0.3F + 0.02F * static_cast<float>(j % 5);
    }
    for (std::int64_t i = 0; i < weight.size(); ++i) weight[i] = 0.5F * random.normal();
  }

  Guarded<float> support, mean, weight, scratch;
  HashView view;
};

/// Random tokens, the third of them zero.
StridedRows tokens_with_a_zero(const Shape& shape, Random& random) {
  StridedRows x = random.rows(shape.tokens, shape.dim, 3);
  if (shape.tokens > 2) std::fill(x[2], x[2] + shape.dim, 0.0F);
  return x;
}

/// |y_fast - y_exact|. With u the unit roundoff and |x^| = |s| = 1: x^.s is off by (D + 8) u, the
/// exponent by (D + 10) u / sigma, k <= 1 by that + 5 u, and a sum of m terms of size |A| by (m +
/// 2) u.
double projection_bound(const HashView& hash, int r) {
  double weight = 0;
  for (int j = 0; j < hash.supports; ++j) weight += std::abs(hash.weight[r * hash.supports + j]);
  return kUnit * weight * ((hash.dim + 10) / hash.bandwidth + 5 + hash.supports + 2);
}

using EncodeTest = EveryTarget;
INSTANTIATE_TEST_SUITE_P(Kernels, EncodeTest, ::testing::ValuesIn(available_targets()),
                         target_name);

TEST_P(EncodeTest, EqualsReferenceButForBitsThatRoundingDecides) {
  std::int64_t bits = 0;
  std::int64_t undecided = 0;
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(::testing::PrintToString(shape));
    Random random(1);
    Hash hash(shape, random);
    StridedRows x = tokens_with_a_zero(shape, random);

    std::vector<Code> codes(shape.tokens), window(shape.tokens);
    std::vector<float> y(shape.tokens * shape.bits);
    reference::encode(hash.view, x.rows(), shape.tokens, codes.data(), y.data(), window.data());
    Guarded<Code> fast_codes(shape.tokens, ~Code{0}), fast_window(shape.tokens, ~Code{0});
    Guarded<float> fast_y(shape.tokens * shape.bits, kNan);
    encode(hash.view, x.rows(), shape.tokens, fast_codes.data(), fast_y.data(), fast_window.data(),
           hash.scratch.data());

    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      Code free_codes = 0;
      Code free_window = 0;
      for (int r = 0; r < shape.bits; ++r) {
        const float exact = y[n * shape.bits + r];
        const double bound = projection_bound(hash.view, r);
        ASSERT_LE(std::abs(fast_y[n * shape.bits + r] - exact), bound) << "token " << n;
        if (std::abs(exact) <= bound) free_codes |= Code{1} << r;
        if (std::abs(std::abs(exact) - 1) <= bound) free_window |= Code{1} << r;
        ++bits;
      }
      undecided += std::popcount(free_codes) + std::popcount(free_window);
      ASSERT_EQ(fast_codes[n] & ~free_codes, codes[n] & ~free_codes) << "token " << n;
      ASSERT_EQ(fast_window[n] & ~free_window, window[n] & ~free_window) << "token " << n;
    }
    ASSERT_TRUE(fast_codes.intact() && fast_window.intact() && fast_y.intact());
    ASSERT_TRUE(hash.scratch.intact());
    const Guarded<Code> with_projection = fast_codes;
    encode(hash.view, x.rows(), shape.tokens, fast_codes.data(), nullptr, nullptr,
           hash.scratch.data());
    ASSERT_TRUE(fast_codes.same_bits(with_projection)) << "optional outputs changed the codes";
  }
  RecordProperty("undecided_bits", static_cast<int>(undecided));
  // The bound is about 1e-5 and y is of order 1, so some 1e-5 of the bits are expected.
  EXPECT_LE(undecided, bits / 1000);
}

/// Where |y| may be on either side of 0 with factors in bfloat16: k - mu is off by a little, and so
/// may round to its neighbour, at most 2^-8 away. That happens to few of the m; two are allowed
/// for.
double bfloat16_bound(const HashView& hash, int r) {
  double largest = 0;
  for (int j = 0; j < hash.supports; ++j) {
    largest = std::max<double>(largest, std::abs(hash.weight[r * hash.supports + j]));
  }
  return projection_bound(hash, r) + 2 * largest / 256;
}

TEST_P(EncodeTest, InBfloat16EqualsReferenceOrIsInFloat32) {
  std::int64_t bits = 0, differ_from_reference = 0, differ_from_float32 = 0;
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(::testing::PrintToString(shape));
    Random random(1);
    Hash hash(shape, random);
    StridedRows x = tokens_with_a_zero(shape, random);
    const auto encoded = [&](Precision precision) {
      hash.view.precision = precision;
      Guarded<Code> codes(shape.tokens, ~Code{0});
      encode(hash.view, x.rows(), shape.tokens, codes.data(), nullptr, nullptr,
             hash.scratch.data());
      EXPECT_TRUE(codes.intact() && hash.scratch.intact());
      return codes;
    };
    const Guarded<Code> float32 = encoded(Precision::kFloat32);
    const Guarded<Code> fast = encoded(Precision::kBfloat16);
    if (!has_bfloat16_encode()) {
      ASSERT_TRUE(fast.same_bits(float32));
      continue;
    }
    std::vector<Code> codes(shape.tokens);
    std::vector<float> y(shape.tokens * shape.bits);
    reference::encode(hash.view, x.rows(), shape.tokens, codes.data(), y.data(), nullptr);
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      const Code differing = fast[n] ^ codes[n];
      for (int r = 0; r < shape.bits; ++r) {
        if ((differing >> r & 1) != 0) {
          ASSERT_LE(std::abs(y[n * shape.bits + r]), bfloat16_bound(hash.view, r)) << "token " << n;
        }
      }
      ASSERT_EQ(shape.bits == 64 ? 0 : differing >> shape.bits, 0U) << "token " << n;
      differ_from_reference += std::popcount(differing);
      differ_from_float32 += std::popcount(fast[n] ^ float32[n]);
      bits += shape.bits;
    }
  }
  // k - mu is off by some 2e-6 where neighbours are up to 2^-8 apart: one y in 1e2 sees another
  // neighbour of one of m, and one in 1e2 of those is near enough to 0.
  EXPECT_LE(differ_from_reference, bits / 1000);
  EXPECT_LE(differ_from_float32, bits / 100);
  EXPECT_EQ(differ_from_float32 > 0, bits > 0) << "rounding must change something";
}

TEST_P(EncodeTest, TokenDoesNotSeeItsNeighbours) {
  for (const Shape& shape : {Shape{37, 32, 25, 16}, Shape{19, 5, 7, 33}}) {
    Random random(2);
    Hash hash(shape, random);
    StridedRows x = random.rows(shape.tokens, shape.dim, 0);
    Guarded<Code> together(shape.tokens), alone(shape.tokens);
    Guarded<float> y_together(shape.tokens * shape.bits), y_alone(shape.tokens * shape.bits);
    encode(hash.view, x.rows(), shape.tokens, together.data(), y_together.data(), nullptr,
           hash.scratch.data());
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      encode(hash.view, {x[n], shape.dim}, 1, &alone[n], &y_alone[n * shape.bits], nullptr,
             hash.scratch.data());
    }
    EXPECT_TRUE(together.same_bits(alone));
    EXPECT_TRUE(y_together.same_bits(y_alone));

    hash.view.precision = Precision::kBfloat16;
    encode(hash.view, x.rows(), shape.tokens, together.data(), nullptr, nullptr,
           hash.scratch.data());
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      encode(hash.view, {x[n], shape.dim}, 1, &alone[n], nullptr, nullptr, hash.scratch.data());
    }
    EXPECT_TRUE(together.same_bits(alone)) << "in bfloat16";
  }
}

TEST_P(EncodeTest, TokenThatIsNotFiniteHasNoBitAndHarmsNoOther) {
  const Shape shape{20, 9, 6, 16};
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
    Random random(3);
    Hash hash(shape, random);
    hash.view.precision = precision;
    StridedRows x = random.rows(shape.tokens, shape.dim, 0);
    std::vector<Code> clean(shape.tokens), codes(shape.tokens), window(shape.tokens);
    encode(hash.view, x.rows(), shape.tokens, clean.data(), nullptr, nullptr, hash.scratch.data());
    x[4][8] = kNan;
    x[18][0] = std::numeric_limits<float>::infinity();
    encode(hash.view, x.rows(), shape.tokens, codes.data(), nullptr, nullptr, hash.scratch.data());
    for (const int n : {4, 18}) {
      EXPECT_EQ(codes[n], 0);
      clean[n] = 0;
    }
    EXPECT_EQ(codes, clean);
    encode(hash.view, x.rows(), shape.tokens, codes.data(), nullptr, window.data(),
           hash.scratch.data());
    for (const int n : {4, 18}) EXPECT_EQ(codes[n] | window[n], 0U);
  }
}

TEST_P(EncodeTest, MeanSquaredDistanceEqualsReference) {
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(::testing::PrintToString(shape));
    Random random(4);
    Hash hash(shape, random);
    const std::vector<std::uint8_t> mask = random.mask(shape.tokens);
    StridedRows x = random.rows(shape.tokens, shape.dim, 2);
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      if (mask[n] == 0 && n % 3 == 0) x[n][0] = kNan;  // padding may hold anything
    }
    // Both means have norm at most 1; the sums of N / lanes and D terms and the result round.
    const double bound = 2 * kUnit * (static_cast<double>(shape.tokens) + shape.dim + 10);
    EXPECT_NEAR(mean_squared_distance(hash.view.support, shape.supports, shape.dim, x.rows(),
                                      shape.tokens, mask.data(), hash.scratch.data()),
                reference::mean_squared_distance(hash.view.support, shape.supports, shape.dim,
                                                 x.rows(), shape.tokens, mask.data()),
                bound);
    const std::vector<std::uint8_t> none(shape.tokens, 0);
    EXPECT_EQ(mean_squared_distance(hash.view.support, shape.supports, shape.dim, x.rows(),
                                    shape.tokens, none.data(), hash.scratch.data()),
              0);
    EXPECT_TRUE(hash.scratch.intact());
  }
}

double norm(const float* x, int dim) {
  double square = 0;
  for (int d = 0; d < dim; ++d) square += static_cast<double>(x[d]) * x[d];
  return std::sqrt(square);
}

TEST_P(EncodeTest, BackwardEqualsReference) {
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(::testing::PrintToString(shape));
    Random random(5);
    Hash hash(shape, random);
    const HashView& view = hash.view;
    StridedRows x = tokens_with_a_zero(shape, random);
    const std::vector<Code> window = random.codes(shape.tokens, shape.bits);
    std::vector<float> code_grad(shape.tokens * shape.bits);
    for (std::size_t i = 0; i < code_grad.size(); ++i) {
      const bool inside = window[i / shape.bits] >> (i % shape.bits) & 1;
      code_grad[i] = inside ? random.normal() : kNan;  // outside the window it must not be read
    }
    StridedRows exact(shape.tokens, shape.dim, 1);
    StridedRows fast(shape.tokens, shape.dim, 1);
    const float exact_sigma = reference::encode_backward(
        view, x.rows(), shape.tokens, window.data(), code_grad.data(), exact.rows());
    const float fast_sigma = encode_backward(view, x.rows(), shape.tokens, window.data(),
                                             code_grad.data(), fast.rows(), hash.scratch.data());

    // As for the projection: k is off by (D + 10) u / sigma + 5 u, its gradient by (b + 2) u of the
    // sum of |code_grad| |A|; the sums over supports and channels add (m + D + 10) u, and the
    // projection that removes the radial part at most doubles all of it. With |t| <= 2 / sigma, the
    // same holds for k t.
    const double sigma = view.bandwidth;
    const double relative =
        kUnit * ((shape.dim + 10) / sigma + shape.bits + shape.supports + shape.dim + 17);
    double total = 0;
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      double kernel_grad = 0;
      for (int r = 0; r < shape.bits; ++r) {
        if ((window[n] >> r & 1) == 0) continue;
        for (int j = 0; j < shape.supports; ++j) {
          kernel_grad += std::abs(code_grad[n * shape.bits + r] *
                                  static_cast<double>(view.weight[r * shape.supports + j]));
        }
      }
      total += kernel_grad;
      const double length = norm(x[n], shape.dim);
      const double bound = length > 0 ? 2 * relative * kernel_grad / sigma / length : 0;
      for (int d = 0; d < shape.dim; ++d) {
        ASSERT_NEAR(fast[n][d], exact[n][d], bound) << "token " << n << " channel " << d;
      }
    }
    EXPECT_NEAR(fast_sigma, exact_sigma, 2 * relative * total * 2 / (sigma * sigma));
    ASSERT_TRUE(fast.intact() && hash.scratch.intact());
  }
}

TEST_P(EncodeTest, BandwidthBackwardEqualsReference) {
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(::testing::PrintToString(shape));
    Random random(6);
    Hash hash(shape, random);
    const std::vector<std::uint8_t> mask = random.mask(shape.tokens);
    StridedRows x = tokens_with_a_zero(shape, random);
    StridedRows exact(shape.tokens, shape.dim, 1);
    StridedRows fast(shape.tokens, shape.dim, 1);
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      for (int d = 0; d < shape.dim; ++d) exact[n][d] = fast[n][d] = 0.25F;
    }
    const float grad = 3;
    reference::bandwidth_backward(hash.view.support, shape.supports, shape.dim, x.rows(),
                                  shape.tokens, mask.data(), grad, exact.rows());
    bandwidth_backward(hash.view.support, shape.supports, shape.dim, x.rows(), shape.tokens,
                       mask.data(), grad, fast.rows(), hash.scratch.data());
    const auto counted = std::count(mask.begin(), mask.end(), 1);
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      // dL/dx^ is at most 2 grad / counted long; its radial part takes sums of D terms.
      const double length = norm(x[n], shape.dim);
      const double size = length > 0 && counted > 0 ? 2 * grad / (counted * length) : 0;
      for (int d = 0; d < shape.dim; ++d) {
        ASSERT_NEAR(fast[n][d], exact[n][d],
                    kUnit * (2 * (shape.dim + 10) * size + std::abs(exact[n][d])))
            << "token " << n << " channel " << d;
      }
    }
    ASSERT_TRUE(fast.intact() && hash.scratch.intact());
  }
}

// ---- Against numeric derivatives in double ----

/// The unit vector of x.
std::vector<double> unit(const std::vector<double>& x) {
  double square = 0;
  for (const double each : x) square += each * each;
  std::vector<double> result = x;
  for (double& each : result) each /= std::sqrt(square);
  return result;
}

double square_distance(const std::vector<double>& x, const float* s) {
  double sum = 0;
  for (std::size_t d = 0; d < x.size(); ++d) sum += (x[d] - s[d]) * (x[d] - s[d]);
  return sum;
}

/// (f(x + h) - f(x - h)) / (2 h).
double slope(double& x, const std::function<double()>& f) {
  const double h = 1e-5;
  const double old = x;
  x = old + h;
  const double high = f();
  x = old - h;
  const double low = f();
  x = old;
  return (high - low) / (2 * h);
}

TEST_P(EncodeTest, BackwardIsTheDerivativeOfTheProjectionInsideTheWindow) {
  const Shape shape{5, 7, 6, 9};
  Random random(7);
  Hash hash(shape, random);
  StridedRows x = random.rows(shape.tokens, shape.dim, 0);
  const std::vector<Code> window = random.codes(shape.tokens, shape.bits);
  Guarded<float> code_grad(shape.tokens * shape.bits);
  random.fill(code_grad);
  StridedRows x_grad(shape.tokens, shape.dim, 0);
  const float sigma_grad = encode_backward(hash.view, x.rows(), shape.tokens, window.data(),
                                           code_grad.data(), x_grad.rows(), hash.scratch.data());

  std::vector<std::vector<double>> tokens;
  for (std::int64_t n = 0; n < shape.tokens; ++n) tokens.emplace_back(x[n], x[n] + shape.dim);
  double sigma = hash.view.bandwidth;
  const auto loss = [&] {
    double sum = 0;
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      for (int r = 0; r < shape.bits; ++r) {
        if ((window[n] >> r & 1) == 0) continue;
        for (int j = 0; j < shape.supports; ++j) {
          const double distance =
              square_distance(unit(tokens[n]), hash.view.support + std::int64_t{j} * shape.dim);
          sum += code_grad[n * shape.bits + r] * hash.weight[r * shape.supports + j] *
                 (std::exp(-distance / (2 * sigma)) - hash.mean[j]);
        }
      }
    }
    return sum;
  };
  // Gradients are of order 1: float32 rounding leaves some 1e-6, the numeric derivative 1e-9.
  EXPECT_NEAR(sigma_grad, slope(sigma, loss), 2e-5);
  for (std::int64_t n = 0; n < shape.tokens; ++n) {
    for (int d = 0; d < shape.dim; ++d) {
      EXPECT_NEAR(x_grad[n][d], slope(tokens[n][d], loss), 2e-5);
    }
  }
}

TEST_P(EncodeTest, BandwidthBackwardIsTheDerivativeOfTheMeanDistance) {
  const Shape shape{6, 5, 4, 1};
  Random random(8);
  Hash hash(shape, random);
  StridedRows x = random.rows(shape.tokens, shape.dim, 0);
  const std::vector<std::uint8_t> mask = {1, 0, 1, 1, 0, 1};
  StridedRows x_grad(shape.tokens, shape.dim, 0);
  for (std::int64_t n = 0; n < shape.tokens; ++n) std::fill_n(x_grad[n], shape.dim, 0.0F);
  bandwidth_backward(hash.view.support, shape.supports, shape.dim, x.rows(), shape.tokens,
                     mask.data(), 2, x_grad.rows(), hash.scratch.data());

  std::vector<std::vector<double>> tokens;
  for (std::int64_t n = 0; n < shape.tokens; ++n) tokens.emplace_back(x[n], x[n] + shape.dim);
  const auto twice_mean_distance = [&] {
    double sum = 0;
    for (std::int64_t n = 0; n < shape.tokens; ++n) {
      if (mask[n] == 0) continue;
      for (int j = 0; j < shape.supports; ++j) {
        sum += square_distance(unit(tokens[n]), hash.view.support + std::int64_t{j} * shape.dim);
      }
    }
    return 2 * sum / (4 * shape.supports);
  };
  EXPECT_NEAR(mean_squared_distance(hash.view.support, shape.supports, shape.dim, x.rows(),
                                    shape.tokens, mask.data(), hash.scratch.data()),
              twice_mean_distance() / 2, 1e-6);
  for (std::int64_t n = 0; n < shape.tokens; ++n) {
    for (int d = 0; d < shape.dim; ++d) {
      EXPECT_NEAR(x_grad[n][d], slope(tokens[n][d], twice_mean_distance), 1e-6);
    }
  }
}

}  // namespace
}  // namespace ecoformer::kernels
