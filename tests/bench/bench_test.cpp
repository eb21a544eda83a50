// What the benchmarks rest on: the yardstick computes what ours does, and the figures are right.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "bench/official_operations.h"
#include "bench/operators.h"
#include "bench/peak_memory.h"
#include "bench/timing.h"
#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors.h"

namespace ecoformer::bench {
namespace {

nn::HashState hash_of(const io::TensorFile& file) {
  return {.support = file.tensors.at("supports"),
          .mean = file.tensors.at("kernel_mean"),
          .weight = file.tensors.at("weight"),
          .bandwidth = {}};
}

/// Largest difference from `expected`, as a share of its largest entry.
double relative_error(const torch::Tensor& got, const torch::Tensor& expected) {
  return ((got - expected).abs().max() / expected.abs().max()).item<double>();
}

// The authors' own outputs and gradients; the tolerances are those of the parity tests.
TEST(OfficialOperations, AgreeWithTheAuthors) {
  for (const char* name : {"b1_h5_n196_d32", "b2_h1_n64_d32", "b2_h4_n50_d64", "b3_h2_n197_d16"}) {
    const std::string folder = ECO_FIXTURES;
    const auto attention = io::read_safetensors(folder + "/attention_" + name + ".safetensors");
    const torch::Tensor out = official_operations(attention.tensors.at("qk"),
                                                  attention.tensors.at("v"), hash_of(attention));
    EXPECT_LT(relative_error(out, attention.tensors.at("output")), 1e-5) << name;
  }
}

TEST(Timing, SummarisesByQuartiles) {
  const Timing timing = summarise({5, 1, 4, 2, 3});
  EXPECT_DOUBLE_EQ(timing.median, 3);
  EXPECT_DOUBLE_EQ(timing.spread, 2.0 / 3);
  EXPECT_DOUBLE_EQ(summarise({7}).spread, 0);
}

TEST(Timing, RunsTasksInTurn) {
  std::string order;
  const auto timings = time_in_turn({[&] {
                                       order += 'a';
                                       torch::randn({1000, 1000});
                                     },
                                     [&] {
                                       order += 'b';
                                       torch::randn({1000, 1000});
                                     }},
                                    0);
  EXPECT_EQ(timings.size(), 2U);
  EXPECT_GT(timings[0].median, 0);
  // Warm-up and one timed run of each, then rounds of one sample each.
  EXPECT_EQ(order.substr(0, 4), "aabb");
  EXPECT_GE(std::count(order.begin(), order.end(), 'a'), 5);
}

TEST(PeakMemory, CountsWhatLivesTogether) {
  const torch::Tensor before = torch::zeros({1000});
  const auto bytes = peak_tensor_bytes([] {
    { const torch::Tensor a = torch::empty({1000}); }
    const torch::Tensor b = torch::empty({2000});
    const torch::Tensor c = torch::empty({500});
  });
  EXPECT_EQ(bytes, 2500 * 4);
}

TEST(Crossover, InterpolatesBetweenLogarithms) {
  EXPECT_DOUBLE_EQ(crossover({100, 400}, {0.5, 2}), 200);
  EXPECT_DOUBLE_EQ(crossover({100, 400}, {1.5, 2}), 100);
  EXPECT_DOUBLE_EQ(crossover({100, 400}, {0.2, 0.9}), 0);
}

TEST(Operators, MeasuresEveryContender) {
  const OperatorShape shape{.tokens = 33, .heads = 2};
  for (const Pass pass : {Pass::kForward, Pass::kTraining}) {
    const auto measured = measure_operators(shape, pass, operator_names(), 0);
    ASSERT_EQ(measured.size(), operator_names().size());
    for (const Measurement& m : measured) {
      EXPECT_GT(m.timing.median, 0) << m.name;
      // At least the output, 2 heads of 33 tokens of 32 floats.
      EXPECT_GE(m.extra_bytes, 2 * 33 * 32 * 4) << m.name;
    }
  }
  EXPECT_THROW(measure_operators(shape, Pass::kForward, {"hope"}, 0), InputError);
}

TEST(HashLearning, MeasuresBoth) {
  const auto measured = measure_hash_learning({.tokens = 64}, 0);
  ASSERT_EQ(measured.size(), 2U);
  // The dense formulation holds [N, N] targets in float32 at least.
  EXPECT_GE(measured[0].extra_bytes, 64 * 64 * 4);
}

}  // namespace
}  // namespace ecoformer::bench
