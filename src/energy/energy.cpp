// The two countings. Every formula stands beside the loop it counts.

#include "ecoformer/energy/energy.h"

#include <fmt/format.h>

#include <algorithm>

#include "ecoformer/base/error.h"
#include "ecoformer/kernels/codes.h"
#include "ecoformer/nn/hamming_attention.h"

namespace ecoformer::energy {
namespace {

/// n multiplications and n additions: multiply-adds.
Operations multiply_adds(std::int64_t n) {
  return {.multiplications = n, .additions = n};
}

/// Replaces exponentials and divisions by what they are charged as.
Operations charged(const Operations& o) {
  return Operations{.multiplications = o.multiplications, .additions = o.additions} +
         o.exponentials * kExponentialCost + o.divisions * kDivisionCost;
}

/// A linear layer on `rows` rows; a bias takes the addition that the first product does not need.
Operations linear(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  return multiply_adds(rows * inputs * outputs);
}

/// LayerNorm of `rows` rows of C channels.
Operations layer_norm(std::int64_t rows, std::int64_t width, Counting counting) {
  if (counting == Counting::kPublished) return multiply_adds(2 * rows * width);
  // A channel: sum, centre, square and sum, scale, gamma and beta. A row: mean, variance + eps,
  // 1/sqrt.
  return rows *
         Operations{.multiplications = 3 * width + 2, .additions = 4 * width + 1, .divisions = 1};
}

/// x/2 (1 + erf(x / sqrt 2)) with LibTorch's vectorised erf: a polynomial of degree 5 in 1 / (1 + p
/// x) times exp(-x^2).
constexpr Operations kGelu{
    .multiplications = 11, .additions = 7, .exponentials = 1, .divisions = 1};

Operations attention_of(const models::SequenceEncoderConfig& config, std::int64_t tokens,
                        Counting counting) {
  nn::AttentionOptions options = config.attention;
  options.heads = config.heads;
  options.dim = config.width / config.heads;
  const bool published = counting == Counting::kPublished;
  if (options.mechanism == "softmax") {
    return published ? published_softmax_attention(tokens, options.heads, options.dim)
                     : counted_softmax_attention(tokens, options.heads, options.dim);
  }
  if (options.mechanism == "eco") {
    return published ? published_eco_attention(tokens, options.heads, options.dim, options.bits,
                                               options.supports)
                     : counted_eco_attention(tokens, options, config.projection);
  }
  throw InputError(
      fmt::format("energy: expected attention softmax or eco, got '{}'", options.mechanism));
}

}  // namespace

Operations operator+(const Operations& a, const Operations& b) {
  return {.multiplications = a.multiplications + b.multiplications,
          .additions = a.additions + b.additions,
          .exponentials = a.exponentials + b.exponentials,
          .divisions = a.divisions + b.divisions};
}

Operations operator*(std::int64_t times, const Operations& o) {
  return {.multiplications = times * o.multiplications,
          .additions = times * o.additions,
          .exponentials = times * o.exponentials,
          .divisions = times * o.divisions};
}

double energy_mj(const Operations& operations) {
  const Operations o = charged(operations);
  return (kMultiplyPicojoule * static_cast<double>(o.multiplications) +
          kAddPicojoule * static_cast<double>(o.additions)) *
         1e-9;
}

double area_mm2(const Operations& operations) {
  const Operations o = charged(operations);
  return (kMultiplyArea * static_cast<double>(o.multiplications) +
          kAddArea * static_cast<double>(o.additions)) *
         1e-6;
}

std::string to_string(Counting counting) {
  return counting == Counting::kPublished ? "published" : "counted";
}

Operations published_softmax_attention(std::int64_t n, std::int64_t heads, std::int64_t dim) {
  const std::int64_t width = heads * dim;
  return {.multiplications = 2 * n * n * width + heads * n * n, .additions = 2 * n * n * width};
}

Operations published_eco_attention(std::int64_t n, std::int64_t heads, std::int64_t dim,
                                   std::int64_t bits, std::int64_t supports) {
  return heads * n *
         Operations{
             .multiplications = 2 * supports + supports * bits + bits + 1 + dim,
             .additions = 2 * supports * dim + supports * bits + 2 * bits + 2 * bits * dim + dim};
}

Operations counted_softmax_attention(std::int64_t n, std::int64_t heads, std::int64_t dim) {
  // A pair: the scaled score, its distance from the row's maximum, exp, the row's sum, the weighted
  // value. The row is divided once, by its inverse sum.
  const Operations pair =
      multiply_adds(2 * dim) + Operations{.multiplications = 1, .additions = 2, .exponentials = 1};
  const Operations row{.multiplications = dim, .divisions = 1};
  return heads * (n * n * pair + n * row);
}

Operations counted_encode(std::int64_t n, const nn::AttentionOptions& o) {
  // |x|^2, summed in two halves, and 1 / |x|.
  const Operations norm = multiply_adds(o.dim) + Operations{.additions = 1, .divisions = 2};
  // x.s, (x.s / |x| - 1) / sigma, exp, k - mu.
  const Operations support =
      multiply_adds(o.dim) + Operations{.multiplications = 2, .additions = 2, .exponentials = 1};
  // A (k - mu), whose sums start from 0 |x|^2. Signs are free.
  const Operations token = norm + o.supports * support + multiply_adds(o.bits * o.supports) +
                           Operations{.multiplications = 1};
  const Operations frozen = n * token + Operations{.divisions = 1};  // 1 / sigma
  if (o.bandwidth == nn::Bandwidth::kFrozen) return frozen;

  // sigma = 2 - 2 mean(x^).mean(s): the norms once more and the sum of unit tokens; once a head the
  // sum of supports, the product of both sums, and the rest of the formula.
  const Operations once = Operations{.additions = o.supports * o.dim} + multiply_adds(o.dim) +
                          Operations{.multiplications = 1, .additions = 1, .divisions = 1};
  return frozen + n * (norm + multiply_adds(o.dim)) + once;
}

Operations counted_tables(std::int64_t n, const nn::AttentionOptions& o) {
  const kernels::CodeLayout layout{
      .bits = static_cast<int>(o.bits),
      .group_bits = static_cast<int>(nn::used_group_bits(o.semantics, o.group_bits, 2 * n))};
  const std::int64_t groups = layout.groups();
  const std::int64_t columns = o.dim + 1;  // the values' channels and the weight

  const Operations accumulate{.additions = groups * columns};
  Operations gather{
      .multiplications = o.dim, .additions = groups + (groups - 1) * o.dim, .divisions = 1};
  if (o.semantics == nn::Semantics::kOfficial) gather = gather + multiply_adds(o.dim);  // own value

  Operations mix;
  for (int g = 0; g < layout.groups(); ++g) {
    const std::int64_t rows = layout.rows(g);
    const std::int64_t width = layout.width(g);
    if (o.semantics == nn::Semantics::kExponential) {
      // A multiply-add an element and bit; exp(-2 beta) for the values and for the weights.
      mix = mix + columns * multiply_adds(width * rows) +
            Operations{.multiplications = 2, .exponentials = 2};
    } else {
      // Halving takes 3 additions a pair of rows, rows - 1 pairs; the bias one multiplication;
      // doubling one addition a new row, and two a bit.
      mix =
          mix + columns * Operations{.multiplications = 1, .additions = 4 * (rows - 1) + 2 * width};
    }
  }
  const std::int64_t tables =
      std::max<std::int64_t>(1, (n + nn::kTableTokens - 1) / nn::kTableTokens);
  const Operations merge{.additions = (tables - 1) * layout.total_rows() * columns};
  return n * (accumulate + gather) + merge + mix;
}

Operations counted_eco_attention(std::int64_t n, const nn::AttentionOptions& options,
                                 nn::Projection projection) {
  const std::int64_t hashes = projection == nn::Projection::kTied ? 1 : 2;
  return options.heads * (hashes * counted_encode(n, options) + counted_tables(n, options));
}

Row count(const models::SequenceEncoderConfig& config, std::int64_t n, Counting counting) {
  models::validate(config);
  if (n < 1 || n > config.positions) {
    throw InputError(fmt::format("energy: expected tokens in 1..{}, the model's positions, got {}",
                                 config.positions, n));
  }
  const std::int64_t width = config.width;
  const std::int64_t projected = config.projection == nn::Projection::kTied ? 2 : 3;
  const Operations attention = attention_of(config, n, counting);

  Operations layer = 2 * layer_norm(n, width, counting) + linear(n, width, projected * width) +
                     attention + linear(n, width, width) + linear(n, width, config.mlp_width) +
                     linear(n, config.mlp_width, width);
  Operations rest = layer_norm(n, width, counting) + linear(1, width, config.head_width) +
                    linear(1, config.head_width, config.classes);
  if (counting == Counting::kCounted) {
    layer =
        layer + n * config.mlp_width * kGelu + Operations{.additions = 2 * n * width};  // residuals
    // Positions added, and the mean over tokens.
    rest = rest + Operations{.additions = 2 * n * width, .divisions = width};
  }

  const bool eco = config.attention.mechanism == "eco";
  return {.model = "sequence_encoder",
          .attention =
              eco ? "eco-" + nn::to_string(config.attention.semantics) : config.attention.mechanism,
          .counting = counting,
          .tokens = n,
          .operations = config.layers * layer + rest,
          .attention_operations = config.layers * attention};
}

}  // namespace ecoformer::energy
