// The closed forms against the authors' published numbers and against algorithms that count
// themselves.

#include "ecoformer/energy/energy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "ecoformer/base/error.h"
#include "ecoformer/kernels/codes.h"
#include "ecoformer/nn/hamming_attention.h"

namespace ecoformer::energy {
namespace {

using models::SequenceEncoderConfig;

/// A number whose arithmetic is counted.
struct Number {
  double value = 0;
  static Operations done;
};
Operations Number::done;

Number operator+(Number a, Number b) {
  ++Number::done.additions;
  return {a.value + b.value};
}
Number operator-(Number a, Number b) {
  ++Number::done.additions;
  return {a.value - b.value};
}
Number operator*(Number a, Number b) {
  ++Number::done.multiplications;
  return {a.value * b.value};
}
Number operator/(Number a, Number b) {
  ++Number::done.divisions;
  return {a.value / b.value};
}
Number& operator+=(Number& a, Number b) {
  return a = a + b;
}
Number exp(Number a) {
  ++Number::done.exponentials;
  return {std::exp(a.value)};
}
Number sqrt(Number a) {
  ++Number::done.divisions;
  return {std::sqrt(a.value)};
}

template <typename Algorithm>
Operations counted_by(const Algorithm& algorithm) {
  Number::done = {};
  algorithm();
  return Number::done;
}

using Vector = std::vector<Number>;
using Matrix = std::vector<Vector>;

Matrix ones(std::int64_t rows, std::int64_t columns) {
  return Matrix(rows, Vector(columns, Number{1}));
}

nn::AttentionOptions eco(std::int64_t heads, std::int64_t dim, std::int64_t bits,
                         std::int64_t supports, std::int64_t group_bits, nn::Semantics semantics) {
  nn::AttentionOptions options;
  options.mechanism = "eco";
  options.heads = heads;
  options.dim = dim;
  options.bits = bits;
  options.supports = supports;
  options.group_bits = group_bits;
  options.semantics = semantics;
  return options;
}

void run_softmax_attention(std::int64_t n, std::int64_t dim) {
  const Matrix q = ones(n, dim);
  for (std::int64_t i = 0; i < n; ++i) {
    Vector scores(n);
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t d = 0; d < dim; ++d) scores[j] += q[i][d] * q[j][d];
      scores[j] = scores[j] * Number{0.5};
    }
    const Number maximum = scores[0];
    Number sum;
    Vector out(dim);
    for (std::int64_t j = 0; j < n; ++j) {
      const Number p = exp(scores[j] - maximum);
      sum += p;
      for (std::int64_t d = 0; d < dim; ++d) out[d] += p * q[j][d];
    }
    const Number inverse = Number{1} / sum;
    for (Number& channel : out) channel = channel * inverse;
  }
}

Number inverse_norm(const Vector& token) {
  Number half[2];
  for (std::size_t d = 0; d < token.size(); ++d) half[d % 2] += token[d] * token[d];
  return Number{1} / sqrt(half[0] + half[1]);
}

Number per_input_bandwidth(const Matrix& x, const Matrix& supports) {
  const std::size_t dim = supports[0].size();
  Vector sum(dim);
  for (const Vector& token : x) {
    const Number inverse = inverse_norm(token);
    for (std::size_t d = 0; d < dim; ++d) sum[d] += token[d] * inverse;
  }
  Number dot;
  for (std::size_t d = 0; d < dim; ++d) {
    Number support_sum;
    for (const Vector& support : supports) support_sum += support[d];
    dot += support_sum * sum[d];
  }
  return Number{2} - Number{2} * dot / Number{static_cast<double>(x.size() * supports.size())};
}

void run_encode(std::int64_t n, const nn::AttentionOptions& o) {
  const Matrix x = ones(n, o.dim);
  const Matrix supports = ones(o.supports, o.dim);
  const Matrix weight = ones(o.bits, o.supports);
  const bool frozen = o.bandwidth == nn::Bandwidth::kFrozen;
  const Number sigma = frozen ? Number{2} : per_input_bandwidth(x, supports);
  const Number inverse_sigma = Number{1} / sigma;
  for (const Vector& token : x) {
    const Number inverse = inverse_norm(token);
    Vector k(o.supports);
    for (std::int64_t j = 0; j < o.supports; ++j) {
      for (std::int64_t d = 0; d < o.dim; ++d) k[j] += token[d] * supports[j][d];
      k[j] = exp((k[j] * inverse - Number{1}) * inverse_sigma) - Number{0.1};
    }
    const Number start = Number{0} * token[0];
    for (std::int64_t r = 0; r < o.bits; ++r) {
      Number y = start;
      for (std::int64_t j = 0; j < o.supports; ++j) y += weight[r][j] * k[j];
    }
  }
}

/// One column of one group's table, mixed by width - 2 distance + bias.
void mix_linear(Vector& rows, Number bias) {
  for (std::size_t half = rows.size() / 2; half > 0; half /= 2) {
    Number difference;
    for (std::size_t n = 0; n < half; ++n) {
      difference += rows[n + half] - rows[n];
      rows[n] += rows[n + half];
    }
    rows[half] = difference;
  }
  rows[0] = bias * rows[0];
  for (std::size_t bit = 1; bit < rows.size(); bit *= 2) rows[0] = rows[0] - rows[bit];
  for (std::size_t half = 1; half < rows.size(); half *= 2) {
    const Number twice = rows[half] + rows[half];
    for (std::size_t n = 0; n < half; ++n) rows[n + half] = rows[n] + twice;
  }
}

/// The same by exp(-2 beta distance), e = exp(-2 beta).
void mix_exponential(Vector& rows, Number e) {
  for (std::size_t bit = 1; bit < rows.size(); bit *= 2) {
    for (std::size_t n = 0; n < rows.size(); ++n) {
      if ((n & bit) != 0) continue;
      const Number clear = rows[n];
      rows[n] += e * rows[n | bit];
      rows[n | bit] += e * clear;
    }
  }
}

void run_tables(std::int64_t n, const nn::AttentionOptions& o) {
  const kernels::CodeLayout layout{
      static_cast<int>(o.bits),
      static_cast<int>(nn::used_group_bits(o.semantics, o.group_bits, 2 * n))};
  const auto columns = static_cast<std::size_t>(o.dim) + 1;
  // tables[g][column][row]; the last column holds the weights.
  std::vector<Matrix> tables;
  for (std::int64_t first = 0; first == 0 || first < n; first += nn::kTableTokens) {
    std::vector<Matrix> block;
    for (int g = 0; g < layout.groups(); ++g) block.push_back(ones(o.dim + 1, layout.rows(g)));
    for (std::int64_t i = first; i < std::min(n, first + nn::kTableTokens); ++i) {
      for (Matrix& table : block) {
        for (Vector& column : table) column[0] += Number{1};
      }
    }
    if (first == 0) {
      tables = std::move(block);
      continue;
    }
    for (std::size_t g = 0; g < tables.size(); ++g) {
      for (std::size_t c = 0; c < columns; ++c) {
        for (std::size_t row = 0; row < tables[g][c].size(); ++row) {
          tables[g][c][row] += block[g][c][row];
        }
      }
    }
  }
  for (Matrix& table : tables) {
    if (o.semantics == nn::Semantics::kExponential) {
      const Number of_values = exp(Number{-2} * Number{0.5});
      const Number of_weights = exp(Number{-2} * Number{0.5});
      for (std::size_t c = 0; c < columns; ++c) {
        mix_exponential(table[c], c + 1 < columns ? of_values : of_weights);
      }
    } else {
      for (Vector& column : table) mix_linear(column, Number{3});
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    Number weight;
    for (const Matrix& table : tables) weight += table.back()[0];
    const Number inverse = Number{1} / weight;
    for (std::size_t c = 0; c + 1 < columns; ++c) {
      Number sum = tables[0][c][0];
      for (std::size_t g = 1; g < tables.size(); ++g) sum += tables[g][c][0];
      if (o.semantics == nn::Semantics::kOfficial) sum += Number{17} * Number{1};
      (void)(sum * inverse);
    }
  }
}

TEST(Published, ReproducesThePaperOnPvtB0) {
  // Attention of PVTv2-B0 at 224 x 224: stages of 2 blocks, heads 1, 2, 5, 8 of 32 channels;
  // softmax in the last. published-results: 0.0082 G multiplications, 0.0376 G additions, 0.064 mJ.
  const Operations total =
      2 *
      (published_eco_attention(3136, 1, 32, 16, 25) + published_eco_attention(784, 2, 32, 16, 25) +
       published_eco_attention(196, 5, 32, 16, 25) + published_softmax_attention(49, 8, 32));
  // By hand: 499 and 3088 a token and head, 11368 of them, and 2 (2 49^2 256 (+ 8 49^2)).
  EXPECT_EQ(total.multiplications, 499 * 11368 + 2 * (2 * 2401 * 256 + 8 * 2401));
  EXPECT_EQ(total.additions, 3088 * 11368 + 2 * (2 * 2401 * 256));
  EXPECT_EQ(total.exponentials, 0);
  EXPECT_EQ(total.divisions, 0);
  EXPECT_EQ(std::llround(total.multiplications * 1e-5), 82);
  EXPECT_EQ(std::llround(total.additions * 1e-5), 376);
  EXPECT_EQ(std::llround(energy_mj(total) * 1e3), 64);
}

TEST(Published, SoftmaxOfPvtB0) {
  const Operations total =
      2 * (published_softmax_attention(3136, 1, 32) + published_softmax_attention(784, 2, 32) +
           published_softmax_attention(196, 5, 32) + published_softmax_attention(49, 8, 32));
  EXPECT_EQ(std::llround(total.multiplications * 1e-6), 1466);
  EXPECT_EQ(std::llround(total.additions * 1e-6), 1443);
  EXPECT_EQ(std::llround(energy_mj(total) * 1e2), 672);
}

TEST(Counted, SoftmaxIsWhatItsLoopsDo) {
  for (const std::int64_t n : {1, 2, 5}) {
    const Operations one = counted_by([&] { run_softmax_attention(n, 3); });
    EXPECT_EQ(counted_softmax_attention(n, 1, 3), one) << n;
    EXPECT_EQ(counted_softmax_attention(n, 4, 3), 4 * one) << n;
  }
}

TEST(Counted, EncodeIsWhatItsLoopsDo) {
  for (const nn::Bandwidth bandwidth : {nn::Bandwidth::kFrozen, nn::Bandwidth::kPerInput}) {
    auto options = eco(1, 3, 5, 4, 4, nn::Semantics::kPaper);
    options.bandwidth = bandwidth;
    for (const std::int64_t n : {1, 2, 7}) {
      EXPECT_EQ(counted_encode(n, options), counted_by([&] { run_encode(n, options); })) << n;
    }
  }
}

TEST(Counted, TablesAreWhatTheirLoopsDo) {
  using nn::Semantics;
  for (const Semantics semantics :
       {Semantics::kPaper, Semantics::kOfficial, Semantics::kExponential}) {
    for (const std::int64_t bits :
         {3, 4, 7, 16}) {  // less than a group, one, a narrow last, several
      for (const std::int64_t group_bits : {4, 8}) {
        const auto options = eco(1, 5, bits, 4, group_bits, semantics);
        // None, few, where linear profiles take wide groups, and more than one table's tokens.
        for (const std::int64_t n : {0, 1, 6, 600, 2049}) {
          EXPECT_EQ(counted_tables(n, options), counted_by([&] { run_tables(n, options); }))
              << to_string(semantics) << " b=" << bits << " w=" << group_bits << " n=" << n;
        }
      }
    }
  }
}

TEST(Counted, TiedTokensAreHashedOnce) {
  const auto options = eco(3, 8, 16, 25, 8, nn::Semantics::kExponential);
  const Operations tied = counted_eco_attention(10, options, nn::Projection::kTied);
  const Operations untied = counted_eco_attention(10, options, nn::Projection::kUntied);
  EXPECT_EQ(untied, tied + 3 * counted_encode(10, options));
}

TEST(Charge, ExponentialsAndDivisionsCostWhatTheirConstantsSay) {
  const Operations one{.multiplications = 1, .additions = 1, .exponentials = 1, .divisions = 1};
  EXPECT_DOUBLE_EQ(energy_mj(one), (3.7 * (1 + 6 + 1) + 0.9 * (1 + 9)) * 1e-9);
  EXPECT_DOUBLE_EQ(area_mm2(one), (7700.0 * (1 + 6 + 1) + 4184.0 * (1 + 9)) * 1e-6);
}

TEST(Count, PublishedModelIsTheSumOfItsParts) {
  SequenceEncoderConfig config;  // 64 wide, 2 heads, 2 layers, mlp 128, classifier 64-128-10
  config.attention.mechanism = "softmax";
  const std::int64_t n = 1000;
  const Row row = count(config, n, Counting::kPublished);
  const std::int64_t layer_linear = n * (64 * 192 + 64 * 64 + 2 * 64 * 128);
  const std::int64_t norms = 5 * 2 * n * 64;
  const std::int64_t head = 64 * 128 + 128 * 10;
  const Operations attention = 2 * published_softmax_attention(n, 2, 32);
  EXPECT_EQ(row.attention_operations, attention);
  EXPECT_EQ(row.operations.multiplications,
            2 * layer_linear + norms + head + attention.multiplications);
  EXPECT_EQ(row.operations.additions, 2 * layer_linear + norms + head + attention.additions);
  EXPECT_EQ(row.attention, "softmax");
}

TEST(Count, EcoNeedsLessThanSoftmaxByBothCountingsAndGrowsLinearly) {
  SequenceEncoderConfig softmax;
  softmax.attention.mechanism = "softmax";
  SequenceEncoderConfig ours;
  ours.attention.mechanism = "eco";
  for (const Counting counting : {Counting::kPublished, Counting::kCounted}) {
    const auto at = [&](std::int64_t n) { return count(ours, n, counting).attention_operations; };
    EXPECT_LT(energy_mj(at(2000)), energy_mj(count(softmax, 2000, counting).attention_operations));
    // Equal steps in N add equal work, exactly.
    EXPECT_EQ(at(2000).additions - at(1000).additions, at(1500).additions - at(500).additions);
    EXPECT_EQ(at(2000).multiplications - at(1000).multiplications,
              at(1500).multiplications - at(500).multiplications);
  }
  EXPECT_EQ(count(ours, 10, Counting::kCounted).attention, "eco-exponential");
}

TEST(Count, RefusesWhatHasNoCount) {
  SequenceEncoderConfig config;
  EXPECT_THROW(count(config, 0, Counting::kCounted), InputError);
  EXPECT_THROW(count(config, config.positions + 1, Counting::kCounted), InputError);
  config.attention.mechanism = "nothing";
  EXPECT_THROW(count(config, 10, Counting::kCounted), InputError);
  config = {};
  config.width = 65;
  EXPECT_THROW(count(config, 10, Counting::kCounted), InputError);
}

}  // namespace
}  // namespace ecoformer::energy
