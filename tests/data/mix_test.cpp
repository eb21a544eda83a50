// Mixup and CutMix: the formulas on small batches, the draws, the targets.
#include "data/mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace ecoformer::data {
namespace {

TEST(Mix, MixupIsTheFormula) {
  torch::Tensor inputs = torch::arange(3 * 2 * 4 * 5, torch::kFloat32).reshape({3, 2, 4, 5}) / 7;
  const torch::Tensor before = inputs.clone();
  mix(inputs, {.lambda = 0.25});
  // 0.25 and 0.75 are exact, so each product and sum rounds as LibTorch's.
  EXPECT_TRUE(inputs.equal(before * 0.25 + before.flip(0) * 0.75));
}

TEST(Mix, CutMixExchangesTheBox) {
  torch::Tensor inputs = torch::arange(2 * 3 * 4 * 5, torch::kFloat32).reshape({2, 3, 4, 5});
  torch::Tensor expected = inputs.clone();
  using torch::indexing::Slice;
  expected.index_put_({Slice(), Slice(), Slice(1, 3), Slice(2, 5)},
                      inputs.flip(0).index({Slice(), Slice(), Slice(1, 3), Slice(2, 5)}));
  mix(inputs, {.lambda = 0.7, .box = {.top = 1, .left = 2, .height = 2, .width = 3}, .cut = true});
  EXPECT_TRUE(inputs.equal(expected));
}

TEST(Mix, DrawsAreTheRecipes) {
  constexpr int kDraws = 20'000;
  constexpr std::int64_t kSize = 30;
  Engine engine(6);
  int cuts = 0;
  double mean = 0;
  double square = 0;
  for (int i = 0; i < kDraws; ++i) {
    const Mixing mixing = draw_mixing(kSize, engine);
    ASSERT_GE(mixing.lambda, 0);
    ASSERT_LE(mixing.lambda, 1);
    if (mixing.cut) {
      ++cuts;
      const Box& box = mixing.box;
      ASSERT_GE(std::min({box.top, box.left, box.height, box.width}), 0);
      ASSERT_LE(box.top + box.height, kSize);
      ASSERT_LE(box.left + box.width, kSize);
      ASSERT_EQ(mixing.lambda, 1 - static_cast<double>(box.height * box.width) / (kSize * kSize));
    } else {
      mean += mixing.lambda;
      square += mixing.lambda * mixing.lambda;
    }
  }
  EXPECT_NEAR(static_cast<double>(cuts) / kDraws, 0.5, 5 * std::sqrt(0.25 / kDraws));
  // Beta(0.8, 0.8) has mean 1/2 and variance 1 / (4 (2 * 0.8 + 1)); lambda^2 lies in [0, 1], so its
  // deviation is at most 1/2.
  const double variance = 1 / (4 * 2.6);
  const double mixups = kDraws - cuts;
  EXPECT_NEAR(mean / mixups, 0.5, 5 * std::sqrt(variance / mixups));
  EXPECT_NEAR(square / mixups, 0.25 + variance, 5 * 0.5 / std::sqrt(mixups));
}

TEST(Mix, TargetsAreSmoothedAndBlended) {
  const torch::Tensor labels = torch::tensor({0, 2, 2, 3}, torch::kInt64);
  const torch::Tensor targets = mixed_targets(labels, 4, 0.75, 0.1);
  // off = 0.025; a label's own 0.9 is split as 0.675 and 0.225.
  const torch::Tensor expected = torch::tensor({{0.7, 0.025, 0.025, 0.25},
                                                {0.025, 0.025, 0.925, 0.025},
                                                {0.025, 0.025, 0.925, 0.025},
                                                {0.25, 0.025, 0.025, 0.7}})
                                     .to(torch::kFloat32);
  // One rounding to float32 of values below 1 on either side.
  EXPECT_TRUE(targets.allclose(expected, /*rtol=*/0, /*atol=*/0x1p-24));
  // Four roundings of values below 1.
  EXPECT_TRUE(targets.sum(1).allclose(torch::ones({4}), /*rtol=*/0, /*atol=*/4 * 0x1p-24));
}

}  // namespace
}  // namespace ecoformer::data
