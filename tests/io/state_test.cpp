// Loading a module's state: everything or nothing.
#include "ecoformer/io/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>

#include "ecoformer/base/error.h"

namespace ecoformer::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

struct InnerImpl : torch::nn::Module {
  InnerImpl() {
    weight = register_parameter("weight", torch::ones({2, 3}));
    count = register_buffer("count", torch::zeros({}, at::kLong));
  }
  torch::Tensor weight, count;
};
TORCH_MODULE(Inner);

struct Outer : torch::nn::Module {
  Outer() {
    register_module("inner", inner);
    bias = register_parameter("bias", torch::ones({2}));
  }
  Inner inner;
  torch::Tensor bias;
};

TEST(StateTest, CopiesInPlace) {
  Outer module;
  std::map<std::string, at::Tensor> state = {{"inner.weight", torch::full({2, 3}, 0.5, at::kHalf)},
                                             {"inner.count", torch::tensor(7, at::kLong)},
                                             {"bias", torch::zeros({2}).set_requires_grad(true)}};
  const void* memory = module.bias.data_ptr();
  load_state(module, state, "file");
  EXPECT_EQ(module.bias.data_ptr(), memory);
  EXPECT_TRUE(module.bias.is_leaf() && module.bias.requires_grad());
  EXPECT_TRUE(torch::equal(module.bias, torch::zeros({2})));
  EXPECT_TRUE(torch::equal(module.inner->weight, torch::full({2, 3}, 0.5F)));
  EXPECT_EQ(module.inner->count.item<int>(), 7);

  const auto own = state_of(module);
  ASSERT_EQ(own.size(), 3U);
  EXPECT_FALSE(own.at("bias").requires_grad());
  EXPECT_EQ(own.at("bias").data_ptr(), memory);
}

TEST(StateTest, ListsAllThatDoesNotFitAndChangesNothing) {
  Outer module;
  const std::map<std::string, at::Tensor> state = {{"bias", torch::zeros({2})},
                                                   {"inner.weight", torch::zeros({3, 2})},
                                                   {"extra", torch::zeros({1})}};
  const StateReport report = compare_state(module, state);
  EXPECT_THAT(report.missing, ElementsAre("inner.count"));
  EXPECT_THAT(report.unexpected, ElementsAre("extra"));
  EXPECT_THAT(report.mismatched,
              ElementsAre("'inner.weight' (expected [2, 3] Float, got [3, 2] Float)"));
  try {
    load_state(module, state, "weights.safetensors");
    FAIL() << "expected an InputError";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "load weights.safetensors: expected the model's own tensors, got 1 missing, 1 "
                 "unexpected, 1 of another shape or dtype\n"
                 "missing: 'inner.count'\n"
                 "unexpected: 'extra'\n"
                 "mismatched: 'inner.weight' (expected [2, 3] Float, got [3, 2] Float)\n"
                 "hint: the file belongs to another architecture or configuration");
  }
  EXPECT_TRUE(torch::equal(module.bias, torch::ones({2})));
}

TEST(StateTest, RefusesFloatsForIntegersAndCapsTheList) {
  Outer module;
  std::map<std::string, at::Tensor> state = state_of(module);
  state["inner.count"] = torch::zeros({});
  for (int i = 10; i < 21; ++i) state["extra" + std::to_string(i)] = torch::zeros({1});
  try {
    load_state(module, state, "file");
    FAIL() << "expected an InputError";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("'inner.count' (expected [] Long, got [] Float)"));
    EXPECT_THAT(error.what(), HasSubstr("'extra17', and 3 more\n"));
    EXPECT_THAT(error.what(), Not(HasSubstr("extra18")));
  }
}

}  // namespace
}  // namespace ecoformer::io
