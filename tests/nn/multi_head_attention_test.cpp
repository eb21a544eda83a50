// The layer and the registry: names of the state, masks, cross-attention, unknown names.

#include "ecoformer/nn/multi_head_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>
#include <string>

#include "ecoformer/base/error.h"
#include "ecoformer/nn/dropout.h"
#include "ecoformer/nn/hash_learner.h"
#include "nn/toy.h"

namespace ecoformer::nn {
namespace {

AttentionOptions eco(Semantics semantics = Semantics::kExponential) {
  return {.mechanism = "eco", .heads = 2, .dim = 8, .semantics = semantics, .supports = 9};
}

void learn(MultiHeadAttention& layer, const torch::Tensor& x) {
  auto* attention = layer->attention->as<EcoAttention>();
  attention->observe([&](const auto& q, const auto& k, const auto&, const Masks& masks) {
    HashLearner({}).learn(*attention->ksh, q, k, masks.queries, masks.keys);
  });
  layer->forward(x);
  attention->observe(nullptr);
}

TEST(MultiHeadAttention, StateNamesAreTheAuthors) {
  const auto names = [](const MultiHeadAttention& layer) {
    std::set<std::string> found;
    for (const auto& item : layer->named_parameters()) found.insert(item.key());
    for (const auto& item : layer->named_buffers()) found.insert(item.key());
    return found;
  };
  auto authors = eco(Semantics::kOfficial);
  authors.bandwidth = Bandwidth::kPerInput;
  EXPECT_EQ(names(MultiHeadAttention(authors, Projection::kTied)),
            (std::set<std::string>{"to_qk.weight", "to_qk.bias", "to_v.weight", "to_v.bias",
                                   "proj.weight", "proj.bias", "fast_attention.ksh.A",
                                   "fast_attention.ksh.mvec", "fast_attention.ksh.anchor"}));
  EXPECT_EQ(names(MultiHeadAttention(eco(), Projection::kUntied)),
            (std::set<std::string>{"qkv.weight", "qkv.bias", "proj.weight", "proj.bias",
                                   "fast_attention.beta", "fast_attention.ksh.A",
                                   "fast_attention.ksh.mvec", "fast_attention.ksh.anchor",
                                   "fast_attention.ksh.sigma"}));
  EXPECT_EQ(names(MultiHeadAttention(AttentionOptions{.heads = 2, .dim = 8}, Projection::kUntied)),
            (std::set<std::string>{"qkv.weight", "qkv.bias", "proj.weight", "proj.bias"}));
}

TEST(MultiHeadAttention, AttendingToItselfIsSelfAttention) {
  const auto x = normal({2, 40, 16}, 1);
  for (const auto projection : {Projection::kTied, Projection::kUntied}) {
    for (const auto& options : {eco(), AttentionOptions{.heads = 2, .dim = 8}}) {
      MultiHeadAttention layer(options, projection);
      if (options.mechanism == "eco") learn(layer, x);
      const auto mask = torch::arange(40).lt(31).unsqueeze(0).expand({2, 40});
      const Masks masks{.keys = mask, .queries = mask};
      // Two matrix products of other shapes round differently, so a code bit near zero could flip;
      // with this seed none does.
      EXPECT_LT((layer->forward(x, mask) - layer->attend_to(x, x, masks)).abs().max().item<float>(),
                1e-5);
      EXPECT_EQ(layer->attend_to(x.narrow(1, 0, 7), x, {}).size(1), 7);
    }
  }
}

TEST(MultiHeadAttention, GradientsReachEveryParameter) {
  const auto x = normal({2, 40, 16}, 1);
  for (const auto projection : {Projection::kTied, Projection::kUntied}) {
    for (const auto semantics :
         {Semantics::kPaper, Semantics::kOfficial, Semantics::kExponential}) {
      MultiHeadAttention layer(eco(semantics), projection);
      learn(layer, x);
      layer->forward(x).square().sum().backward();
      for (const auto& item : layer->named_parameters()) {
        ASSERT_TRUE(item.value().grad().defined()) << item.key();
        EXPECT_GT(item.value().grad().abs().max().item<float>(), 0) << item.key();
        EXPECT_TRUE(item.value().grad().isfinite().all().item<bool>()) << item.key();
      }
    }
  }
}

TEST(SoftmaxAttention, MasksMatchTheUnpaddedRun) {
  const auto q = normal({2, 2, 30, 8}, 1);
  const auto k = normal({2, 2, 30, 8}, 2);
  const auto v = normal({2, 2, 30, 8}, 3);
  const auto attention = make_attention({.mechanism = "softmax", .heads = 2, .dim = 8});
  const auto mask = torch::arange(30).lt(torch::tensor({{20}, {0}}));
  const auto out = attention->forward(q, k, v, {.keys = mask, .queries = mask});
  const auto bare = attention->forward(q.narrow(2, 0, 20), k.narrow(2, 0, 20), v.narrow(2, 0, 20));
  EXPECT_LT((out[0].narrow(1, 0, 20) - bare[0]).abs().max().item<float>(), 1e-5);
  EXPECT_TRUE(out[0].narrow(1, 20, 10).eq(0).all().item<bool>());
  EXPECT_TRUE(out[1].eq(0).all().item<bool>());  // all padded: zeros, not NaN
}

TEST(Attention, RegistryRefusesWhatItDoesNotKnow) {
  EXPECT_THROW(make_attention({.mechanism = "hyena"}), InputError);
  EXPECT_THROW(semantics_from_string("papers"), InputError);
  EXPECT_THROW(bandwidth_from_string("thawed"), InputError);
  EXPECT_THROW(projection_from_string("knotted"), InputError);
  auto wrong = eco();
  wrong.group_bits = 5;
  EXPECT_THROW(make_attention(wrong), Error);
  wrong = eco();
  wrong.bits = 65;
  EXPECT_THROW(make_attention(wrong), Error);
}

TEST(Attention, AnUnlearnedHashFunctionSaysSo) {
  const auto x = normal({1, 40, 16}, 1);
  try {
    MultiHeadAttention(eco(), Projection::kUntied)->forward(x);
    FAIL() << "attended with an unlearned hash function";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("hint: learn"), std::string::npos);
  }
}

TEST(Dropout, DrawsFromItsGeneratorOnly) {
  Dropout dropout(0.25);
  const auto x = torch::ones({1000});
  EXPECT_THROW(dropout(x), Error);
  dropout->use_generator(at::make_generator<at::CPUGeneratorImpl>(3));
  const auto first = dropout(x);
  dropout->use_generator(at::make_generator<at::CPUGeneratorImpl>(3));
  EXPECT_TRUE(torch::equal(first, dropout(x)));
  // 1000 draws of probability 0.75: five standard deviations are 5 sqrt(0.75 * 0.25 / 1000) = 0.07.
  EXPECT_NEAR(first.gt(0).to(torch::kFloat64).mean().item<double>(), 0.75, 0.07);
  EXPECT_FLOAT_EQ(first.max().item<float>(), 1 / 0.75F);
  dropout->eval();
  EXPECT_TRUE(torch::equal(dropout(x), x));
}

TEST(Dropout, DropsTheShareItShouldInBothDirections) {
  // More than one chunk, and not a whole number of them.
  const std::int64_t count = 3 * 65536 + 17;
  Dropout dropout(0.1);
  dropout->use_generator(at::make_generator<at::CPUGeneratorImpl>(5));
  const auto x = torch::ones({count}).requires_grad_();
  const auto first = dropout(x);
  const auto second = dropout(x);
  // Five standard deviations of a share of `count` draws.
  const double tolerance = 5 * std::sqrt(0.1 * 0.9 / static_cast<double>(count));
  const auto share = [](const torch::Tensor& set) {
    return set.to(torch::kDouble).mean().item<double>();
  };
  EXPECT_NEAR(share(first == 0), 0.1, tolerance);
  EXPECT_NEAR(share((first == 0).logical_and(second == 0)), 0.01, tolerance);
  // Neighbours and chunks are independent, too.
  const auto gone = first == 0;
  for (const std::int64_t shift : {1, 2, 64, 65536}) {
    EXPECT_NEAR(share(gone.slice(0, shift).logical_and(gone.slice(0, 0, count - shift))), 0.01,
                tolerance);
  }
  EXPECT_TRUE(first.eq(0).logical_or(first.eq(1.0F / 0.9F)).all().item<bool>());
  first.backward(torch::ones({count}));
  EXPECT_TRUE(torch::equal(x.grad(), first));
}

TEST(Dropout, IsTheSameForAnyNumberOfThreads) {
  const auto x =
      torch::randn({200'003}, at::make_generator<at::CPUGeneratorImpl>(1), torch::kFloat);
  const auto draw = [&](int threads) {
    const int before = torch::get_num_threads();
    torch::set_num_threads(threads);
    Dropout dropout(0.5);
    dropout->use_generator(at::make_generator<at::CPUGeneratorImpl>(2));
    const auto y = dropout(x);
    torch::set_num_threads(before);
    return y;
  };
  EXPECT_TRUE(torch::equal(draw(1), draw(3)));
}

TEST(DropPath, DropsWholeSamplesAndIsFreeOtherwise) {
  DropPath path(0.25);
  const auto x = torch::ones({1000, 2, 3}).requires_grad_();
  EXPECT_THROW(path(x), Error);
  use_generator(*path, at::make_generator<at::CPUGeneratorImpl>(3));
  const auto y = path(x);
  use_generator(*path, at::make_generator<at::CPUGeneratorImpl>(3));
  EXPECT_TRUE(torch::equal(path(x), y));
  const auto kept = y.select(1, 0).select(1, 0).gt(0);
  EXPECT_TRUE(torch::equal(y, (kept.to(torch::kFloat) / 0.75F).view({-1, 1, 1}).expand_as(y)));
  // As above: five standard deviations of a share of 1000 draws.
  EXPECT_NEAR(kept.to(torch::kFloat64).mean().item<double>(), 0.75, 0.07);
  y.sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), y));
  path->eval();
  EXPECT_TRUE(path(x).is_same(x));
  EXPECT_THROW(DropPath(1.0), Error);
}

}  // namespace
}  // namespace ecoformer::nn
