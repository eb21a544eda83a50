// Attends over a handful of tokens with the installed kernels and checks what needs no reference:
// equal values come out as they went in.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "ecoformer/kernels/codes.h"
#include "ecoformer/kernels/encode.h"
#include "ecoformer/kernels/tables.h"

namespace ek = ecoformer::kernels;

int main() {
  constexpr int kTokens = 5, kDim = 3, kSupports = 2, kBits = 4;
  const std::vector<float> tokens = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0, -1, 0, 1};
  const std::vector<float> support = {1, 0, 0, 0, 1, 0};
  const std::vector<float> mean = {0.5F, 0.5F};
  const std::vector<float> weight = {1, 0, 0, 1, -1, 1, 1, 1};
  const ek::HashView hash = {.dim = kDim,
                             .supports = kSupports,
                             .bits = kBits,
                             .support = support.data(),
                             .mean = mean.data(),
                             .weight = weight.data(),
                             .bandwidth = 1};

  std::vector<float> scratch(
      static_cast<std::size_t>(ek::encode_scratch_floats(kDim, kSupports, kBits)));
  std::vector<ek::Code> codes(kTokens);
  ek::encode(hash, {tokens.data(), kDim}, kTokens, codes.data(), nullptr, nullptr, scratch.data());
  // The first token is the first support: k = (1, exp(-1)), so y = (0.5, -0.13, -0.63, 0.37).
  if (codes[0] != 0b1001) {
    std::fprintf(stderr, "encode: expected code 9, got %llu\n",
                 static_cast<unsigned long long>(codes[0]));
    return 1;
  }

  const ek::CodeLayout layout = {.bits = kBits, .group_bits = 4};
  const auto rows = static_cast<std::size_t>(layout.total_rows());
  std::vector<float> table_values(rows * kDim), table_weights(rows);
  const ek::Table table = {.values = table_values.data(), .weights = table_weights.data()};
  const std::vector<float> values(kTokens * kDim, 2.5F);
  const ek::ConstRows value_rows = {values.data(), kDim};
  ek::accumulate(layout, codes.data(), nullptr, value_rows, nullptr, kTokens, kDim, table);
  ek::mix(layout, ek::exponential_profile(1), kDim, table);
  std::vector<float> out(kTokens * kDim);
  ek::gather(layout, codes.data(), nullptr, table, 0, value_rows, kTokens, kDim, {out.data(), kDim},
             nullptr);
  for (const float x : out) {
    // A weighted mean of equal values: a dozen roundings at the most.
    if (std::abs(x - 2.5F) > 12 * 2.5F * 6e-8F) {
      std::fprintf(stderr, "gather: expected 2.5, got %.9g\n", x);
      return 1;
    }
  }
  return 0;
}
