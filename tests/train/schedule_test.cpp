// Schedules against values worked out by hand.
#include "ecoformer/train/schedule.h"

#include "gtest/gtest.h"

namespace ecoformer::train {
namespace {

TEST(OneCycle, FollowsTorchsCorners) {
  // torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=11, pct_start=5/11, anneal linear):
  // from 0.04 over 4 intervals to 1, over 6 intervals to 0.04 / 10^4.
  EXPECT_DOUBLE_EQ(one_cycle(0, 11, 5, 1), 0.04);
  EXPECT_DOUBLE_EQ(one_cycle(2, 11, 5, 1), 0.52);
  EXPECT_DOUBLE_EQ(one_cycle(4, 11, 5, 1), 1);
  EXPECT_DOUBLE_EQ(one_cycle(7, 11, 5, 1), (1 + 4e-6) / 2);
  EXPECT_NEAR(one_cycle(10, 11, 5, 1), 4e-6, 1e-15);
  EXPECT_NEAR(one_cycle(99, 11, 5, 1), 4e-6, 1e-15);
}

TEST(OneCycle, WithoutWarmupStartsAtThePeak) {
  EXPECT_DOUBLE_EQ(one_cycle(0, 3, 0, 2), 2);
  EXPECT_DOUBLE_EQ(one_cycle(1, 3, 0, 2), (2 + 8e-6) / 2);
  EXPECT_DOUBLE_EQ(one_cycle(0, 1, 0, 2), 2);
}

TEST(WarmupCosine, FollowsItsCorners) {
  const auto rate = [](std::int64_t step) { return warmup_cosine(step, 10, 4, 1, 0.2, 0.1); };
  EXPECT_DOUBLE_EQ(rate(0), 0.2);
  EXPECT_DOUBLE_EQ(rate(1), 0.4);
  EXPECT_DOUBLE_EQ(rate(4), 1);
  EXPECT_DOUBLE_EQ(rate(6), 0.1 + 0.9 * 0.75);  // A third of the way: cos 60 degrees = 1/2.
  EXPECT_DOUBLE_EQ(rate(7), 0.55);
  EXPECT_DOUBLE_EQ(rate(10), 0.1);
  EXPECT_DOUBLE_EQ(rate(99), 0.1);
}

}  // namespace
}  // namespace ecoformer::train
