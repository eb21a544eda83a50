// Properties of the operator: linear form equals quadratic form, masks, threads, dtypes, gradients.

#include "ecoformer/nn/hamming_attention.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "ecoformer/base/error.h"
#include "nn/toy.h"

namespace ecoformer::nn {
namespace {

using torch::Tensor;
using torch::indexing::Slice;

constexpr Semantics kAllSemantics[] = {Semantics::kPaper, Semantics::kOfficial,
                                       Semantics::kExponential};

struct Toy {
  HashFunction hash = nullptr;
  Tensor q, k, v, beta;

  explicit Toy(std::int64_t samples = 2, std::int64_t heads = 3, std::int64_t tokens = 37,
               std::int64_t dim = 12, Bandwidth bandwidth = Bandwidth::kFrozen)
      : hash(random_hash(
            {.heads = heads, .dim = dim, .bits = 13, .supports = 9, .bandwidth = bandwidth}, 7)),
        q(normal({samples, heads, tokens, dim}, 1)),
        k(normal({samples, heads, tokens, dim}, 2)),
        v(normal({samples, heads, tokens, dim}, 3)),
        beta(torch::linspace(0.1, 0.9, heads)) {}

  Tensor attend(Semantics semantics, const Masks& masks = {}, std::int64_t group_bits = 8) const {
    return hamming_attention(q, k, v, hash->state(), semantics, group_bits, beta, masks);
  }
};

/// The N x N form from unpacked codes, in double.
Tensor quadratic(const Toy& toy, Semantics semantics, std::int64_t group_bits) {
  const auto bits = toy.hash->options().bits;
  const auto hq = unpack_codes(toy.hash->encode(toy.q), bits).to(torch::kFloat64);
  const auto hk = unpack_codes(toy.hash->encode(toy.k), bits).to(torch::kFloat64);
  const auto v = toy.v.to(torch::kFloat64);
  if (semantics == Semantics::kExponential) {
    Tensor weight;
    for (std::int64_t g = 0; g * group_bits < bits; ++g) {
      const auto group = Slice(g * group_bits, std::min(bits, (g + 1) * group_bits));
      const auto a = hq.index({"...", group});
      const auto c = hk.index({"...", group});
      const auto distance = (static_cast<double>(a.size(-1)) - a.matmul(c.transpose(-1, -2))) / 2;
      const auto term = torch::exp(-2 * toy.beta.view({1, -1, 1, 1}) * distance);
      weight = weight.defined() ? weight + term : term;
    }
    return weight.matmul(v) / weight.sum(-1, true);
  }
  const auto product = hq.matmul(hk.transpose(-1, -2));
  if (semantics == Semantics::kPaper) {
    const auto weight = product + 16;  // 2^ceil(log2(13 + 1))
    return weight.matmul(v) / weight.sum(-1, true);
  }
  return (product.matmul(v) + 14 * v) / (product + 14).sum(-1, true);
}

TEST(HammingAttention, LinearFormEqualsQuadraticForm) {
  for (const auto semantics : kAllSemantics) {
    for (const std::int64_t group_bits : {4, 8}) {
      const Toy toy;
      // Sums of 37 values of size about 3 with weights up to 29: 37 * 3 * 29 * 6e-8 over a weight
      // sum of at least 37.
      EXPECT_LT((toy.attend(semantics, {}, group_bits) - quadratic(toy, semantics, group_bits))
                    .abs()
                    .max()
                    .item<double>(),
                1e-5);
    }
  }
}

// Longer than a block of tokens with a table of its own, and not a whole number of chunks.
TEST(HammingAttention, LongSequencesEqualTheQuadraticForm) {
  for (const auto semantics : kAllSemantics) {
    const Toy toy(1, 1, 2311);
    // N roundings of a sum whose terms are |v| times a share of the weight: N 2^-24 times the mean
    // of |v|, which is below 1; once more for the sum of the weights.
    EXPECT_LT((toy.attend(semantics) - quadratic(toy, semantics, 8)).abs().max().item<double>(),
              2 * 2311 * 0x1p-24);
  }
}

TEST(HammingAttention, ConstantValuesGiveAConstant) {
  Toy toy;
  toy.v.fill_(1.5F);
  for (const auto semantics : {Semantics::kPaper, Semantics::kExponential}) {
    EXPECT_LT((toy.attend(semantics) - 1.5).abs().max().item<float>(), 1e-5);
  }
}

TEST(HammingAttention, PermutingTokensPermutesOutputs) {
  Toy toy;
  const auto order =
      torch::randperm(37, at::make_generator<at::CPUGeneratorImpl>(5), torch::kInt64);
  for (const auto semantics : kAllSemantics) {
    const auto expected = toy.attend(semantics).index_select(2, order);
    Toy permuted = toy;
    permuted.q = toy.q.index_select(2, order);
    permuted.k = toy.k.index_select(2, order);
    permuted.v = toy.v.index_select(2, order);
    EXPECT_LT((permuted.attend(semantics) - expected).abs().max().item<float>(), 1e-5);
  }
}

/// Attends to the first `real` of `tokens` tokens, behind which everything is NaN and must not be
/// seen.
void expect_padding_changes_no_bit(std::int64_t real, std::int64_t tokens) {
  const Toy toy(2, 3, tokens);
  Toy padded = toy;
  padded.q = toy.q.clone();
  padded.k = toy.k.clone();
  padded.v = toy.v.clone();
  const auto tail = Slice(real, torch::indexing::None);
  for (Tensor* x : {&padded.q, &padded.k, &padded.v}) {
    x->index_put_({Slice(), Slice(), tail}, std::numeric_limits<float>::quiet_NaN());
  }
  const auto mask = torch::arange(tokens).lt(real).unsqueeze(0).expand({2, tokens});
  Toy bare = toy;
  const auto head = Slice(0, real);
  bare.q = toy.q.index({Slice(), Slice(), head});
  bare.k = toy.k.index({Slice(), Slice(), head});
  bare.v = toy.v.index({Slice(), Slice(), head});
  for (const auto semantics : kAllSemantics) {
    for (Toy* t : {&padded, &bare}) {
      for (Tensor* x : {&t->q, &t->k, &t->v}) *x = x->detach().clone().requires_grad_();
      t->beta = t->beta.detach().clone().requires_grad_();
    }
    const auto out = padded.attend(semantics, {.keys = mask, .queries = mask});
    const auto expected = bare.attend(semantics);
    EXPECT_TRUE(torch::equal(out.index({Slice(), Slice(), head}), expected));
    EXPECT_TRUE(out.index({Slice(), Slice(), tail}).eq(0).all().item<bool>());
    out.index({Slice(), Slice(), head}).square().sum().backward();
    expected.square().sum().backward();
    for (const auto& [x, y] :
         {std::pair(padded.q, bare.q), {padded.k, bare.k}, {padded.v, bare.v}}) {
      EXPECT_TRUE(torch::equal(x.grad().index({Slice(), Slice(), head}), y.grad()));
      EXPECT_TRUE(x.grad().index({Slice(), Slice(), tail}).eq(0).all().item<bool>());
    }
    if (semantics == Semantics::kExponential) {
      EXPECT_TRUE(torch::equal(padded.beta.grad(), bare.beta.grad()));
    }
  }
}

TEST(HammingAttention, PaddingChangesNoBit) {
  expect_padding_changes_no_bit(23, 37);
  // Where linear profiles go from narrow to wide groups, and from one block of tokens to two.
  expect_padding_changes_no_bit(500, 700);
  expect_padding_changes_no_bit(1990, 2100);
}

TEST(HammingAttention, PerInputBandwidthAveragesRealTokensOnly) {
  const Toy toy(2, 3, 37, 12, Bandwidth::kPerInput);
  const auto mask = torch::arange(37).lt(23).unsqueeze(0).expand({2, 37});
  Toy bare = toy;
  for (Tensor* x : {&bare.q, &bare.k, &bare.v}) *x = x->narrow(2, 0, 23);
  const auto out = toy.attend(Semantics::kPaper, {.keys = mask, .queries = mask});
  EXPECT_TRUE(torch::equal(out.narrow(2, 0, 23), bare.attend(Semantics::kPaper)));
}

TEST(HammingAttention, NothingRealGivesZerosAndZeroGradients) {
  Toy toy;
  toy.v.requires_grad_();
  toy.q.requires_grad_();
  const auto none = torch::zeros({2, 37}, torch::kBool);
  for (const auto semantics : kAllSemantics) {
    const auto out = toy.attend(semantics, {.keys = none, .queries = {}});
    EXPECT_TRUE(out.eq(0).all().item<bool>());
    toy.v.mutable_grad() = toy.q.mutable_grad() = Tensor();
    out.sum().backward();
    if (semantics != Semantics::kOfficial) {
      EXPECT_TRUE(toy.v.grad().eq(0).all().item<bool>());
    }
    EXPECT_TRUE(toy.q.grad().eq(0).all().item<bool>());
  }
}

TEST(HammingAttention, EmptyInputs) {
  const Toy toy;
  const auto none = toy.k.narrow(2, 0, 0);
  const auto state = toy.hash->state();
  const auto no_keys = hamming_attention(toy.q, none, none, state, Semantics::kPaper, 8);
  EXPECT_TRUE(no_keys.eq(0).all().item<bool>());
  EXPECT_EQ(hamming_attention(none, toy.k, toy.v, state, Semantics::kPaper, 8).size(2), 0);
  const auto no_samples = toy.q.narrow(0, 0, 0);
  EXPECT_EQ(
      hamming_attention(no_samples, no_samples, no_samples, state, Semantics::kOfficial, 8).numel(),
      0);
}

/// Output and gradients of a run with so many threads, one after another.
Tensor run_with_threads(int threads, std::int64_t samples, std::int64_t heads, std::int64_t tokens,
                        Semantics semantics) {
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  Toy toy(samples, heads, tokens, 32, Bandwidth::kPerInput);
  for (Tensor* x : {&toy.q, &toy.k, &toy.v, &toy.beta}) x->requires_grad_();
  const auto out = toy.attend(semantics);
  out.square().sum().backward();
  at::set_num_threads(before);
  std::vector<Tensor> all{out.detach().flatten()};
  for (Tensor* x : {&toy.q, &toy.k, &toy.v, &toy.beta}) {
    if (x->grad().defined()) all.push_back(x->grad().flatten());
  }
  return torch::cat(all);
}

TEST(HammingAttention, AnyNumberOfThreadsGivesTheSameBits) {
  for (const auto semantics : kAllSemantics) {
    // More heads than threads, fewer, and one head of several blocks.
    for (const auto& [samples, heads, tokens] :
         {std::tuple(2, 3, 100), {1, 2, 700}, {1, 1, 5000}}) {
      const Tensor one = run_with_threads(1, samples, heads, tokens, semantics);
      for (const int threads : {2, 5}) {
        EXPECT_TRUE(
            torch::equal(run_with_threads(threads, samples, heads, tokens, semantics), one));
      }
    }
  }
}

TEST(HammingAttention, CrossAttentionOfDifferentLengths) {
  Toy toy;
  const auto state = toy.hash->state();
  const auto full = toy.attend(Semantics::kExponential);
  const auto few = hamming_attention(toy.q.narrow(2, 5, 11), toy.k, toy.v, state,
                                     Semantics::kExponential, 8, toy.beta);
  EXPECT_TRUE(torch::equal(few, full.narrow(2, 5, 11)));
  EXPECT_THROW(
      hamming_attention(toy.q.narrow(2, 0, 5), toy.k, toy.v, state, Semantics::kOfficial, 8),
      c10::Error);
}

TEST(HammingAttention, ReadsStridedInputsInPlace) {
  const Toy toy;
  Toy strided = toy;
  // [B, N, H, 3 D] as a fused projection leaves it.
  const auto fused = torch::cat({toy.q, toy.k, toy.v}, -1).transpose(1, 2).contiguous();
  const auto parts = fused.transpose(1, 2).chunk(3, -1);
  std::tie(strided.q, strided.k, strided.v) = std::tie(parts[0], parts[1], parts[2]);
  ASSERT_FALSE(strided.q.is_contiguous());
  for (const auto semantics : kAllSemantics) {
    EXPECT_TRUE(torch::equal(strided.attend(semantics), toy.attend(semantics)));
  }
}

TEST(HammingAttention, HalfPrecisionInputsAreComputedInFloat32) {
  const Toy toy;
  for (const auto dtype : {torch::kBFloat16, torch::kFloat16}) {
    Toy half = toy;
    for (Tensor* x : {&half.q, &half.k, &half.v}) *x = x->to(dtype).requires_grad_();
    const auto out = half.attend(Semantics::kExponential);
    ASSERT_EQ(out.scalar_type(), dtype);
    Toy rounded = toy;
    rounded.q = half.q.detach().to(torch::kFloat32);
    rounded.k = half.k.detach().to(torch::kFloat32);
    rounded.v = half.v.detach().to(torch::kFloat32);
    EXPECT_TRUE(torch::equal(out, rounded.attend(Semantics::kExponential).to(dtype)));
    out.to(torch::kFloat32).sum().backward();
    EXPECT_EQ(half.q.grad().scalar_type(), dtype);
  }
}

TEST(HammingAttention, HashesInBfloat16WhereTheMachineDoes) {
  constexpr auto kBfloat16 = kernels::Precision::kBfloat16;
  Toy toy(/*samples=*/2, /*heads=*/2, /*tokens=*/700, /*dim=*/32);
  if (!kernels::has_bfloat16_encode()) {
    EXPECT_THROW(toy.hash->set_precision(kBfloat16), InputError);
    EXPECT_THROW(toy.hash->share_changed_by_bfloat16(toy.q), InputError);
    return;
  }
  const Tensor codes = toy.hash->encode(toy.q), out = toy.attend(Semantics::kPaper);
  const double share = toy.hash->share_changed_by_bfloat16(toy.q);
  EXPECT_TRUE(toy.hash->encode(toy.q).equal(codes)) << "asking must not set";
  toy.hash->set_precision(kBfloat16);
  const Tensor rounded = toy.hash->encode(toy.q);
  const double found = unpack_codes(codes, 13)
                           .ne(unpack_codes(rounded, 13))
                           .to(torch::kFloat64)
                           .mean()
                           .item<double>();
  EXPECT_DOUBLE_EQ(share, found);
  EXPECT_GT(share, 0);
  EXPECT_LT(share, 0.01);
  // A query whose code differs in one bit changes its weights by 2, of 16 on the mean: an output,
  // the mean of 700 values of variance 1, by about 2 / 16 / sqrt(700) = 0.005. 0.1 is 20 of those.
  const Tensor approximate = toy.attend(Semantics::kPaper);
  EXPECT_FALSE(approximate.equal(out));
  EXPECT_LT((approximate - out).abs().max().item<double>(), 0.1);

  // Learning needs projections, which are float32: same bits as without the option.
  Toy learning = toy;
  learning.q = toy.q.clone().requires_grad_();
  EXPECT_TRUE(learning.attend(Semantics::kPaper).equal(out));
  EXPECT_TRUE(toy.hash->project(toy.q).gt(0).equal(unpack_codes(codes, 13).gt(0)));
}

TEST(HammingAttention, BetaGradientAgreesWithFiniteDifferences) {
  Toy toy;
  toy.beta.requires_grad_();
  const auto target = normal(toy.v.sizes(), 11);
  (toy.attend(Semantics::kExponential) * target).sum().backward();
  const auto loss = [&](const Tensor& beta) {
    Toy moved = toy;
    moved.beta = beta;
    return (quadratic(moved, Semantics::kExponential, 8) * target).sum().item<double>();
  };
  for (std::int64_t h = 0; h < 3; ++h) {
    const auto step = torch::zeros({3}, torch::kFloat64);
    step[h] = 1e-5;
    const auto base = toy.beta.detach().to(torch::kFloat64);
    const double numeric = (loss(base + step) - loss(base - step)) / 2e-5;
    EXPECT_NEAR(toy.beta.grad()[h].item<double>(), numeric,
                1e-3 * std::max(1.0, std::abs(numeric)));
  }
}

TEST(HammingAttention, BetaOutsideItsRangeActsAsTheBound) {
  Toy toy;
  toy.beta = torch::tensor({-1.0F, 0.5F, 9.0F}).requires_grad_();
  const auto out = toy.attend(Semantics::kExponential);
  out.square().sum().backward();
  EXPECT_EQ(toy.beta.grad()[0].item<float>(), 0);
  EXPECT_NE(toy.beta.grad()[1].item<float>(), 0);
  EXPECT_EQ(toy.beta.grad()[2].item<float>(), 0);
  toy.beta = torch::tensor({0.0F, 0.5F, static_cast<float>(kMaxBeta)});
  EXPECT_TRUE(torch::equal(toy.attend(Semantics::kExponential), out.detach()));
}

TEST(HammingAttention, CodeGradientIsTheStraightThroughDiscreteDerivative) {
  // One query moved: dL/dy_r must be the discrete derivative of the quadratic form by that bit,
  // where |y_r| < 1, carried on by the smooth part of the hash.
  Toy toy(1, 1, 15, 8);
  toy.q.requires_grad_();
  toy.k.requires_grad_();
  const auto out_grad = normal({1, 1, 15, 8}, 17);
  const auto out = toy.attend(Semantics::kExponential);
  (out * out_grad).sum().backward();
  // The same composition with ordinary autograd: y -> h by a straight-through surrogate, weights
  // linear in each bit between its two values.
  const auto state = toy.hash->state();
  const auto projection = [&](const Tensor& x) {
    const auto unit = x / x.norm(2, -1, true);
    const auto kernel = torch::exp((unit.matmul(state.support.transpose(-1, -2)) - 1) /
                                   state.bandwidth.view({1, -1, 1, 1}));
    return (kernel - state.mean).matmul(state.weight.transpose(-1, -2).unsqueeze(0));
  };
  const auto surrogate = [](const Tensor& y) {
    const auto sign = torch::where(y > 0, 1.0F, -1.0F);
    const auto inside = torch::where(y.abs() < 1, y, y.detach());
    return sign.detach() + inside - inside.detach();
  };
  const auto q = toy.q.detach().clone().requires_grad_();
  const auto k = toy.k.detach().clone().requires_grad_();
  const auto hq = surrogate(projection(q)).unsqueeze(3);
  const auto hk = surrogate(projection(k)).unsqueeze(2);
  const double e = std::exp(-2.0 * toy.beta[0].item<double>());
  // Per bit the factor is 1 where the bits agree and e where they differ: (1 + e)/2 + (1 - e)/2 hq
  // hk.
  const auto factor = (1 + e) / 2 + (1 - e) / 2 * hq * hk;
  const auto weight =
      factor.index({"...", Slice(0, 8)}).prod(-1) + factor.index({"...", Slice(8, 13)}).prod(-1);
  const auto reference = weight.matmul(toy.v) / weight.sum(-1, true);
  EXPECT_LT((reference - out).abs().max().item<float>(), 1e-5);
  (reference * out_grad).sum().backward();
  EXPECT_GT(q.grad().abs().max().item<float>(), 0);
  EXPECT_LT((q.grad() - toy.q.grad()).abs().max().item<float>(),
            1e-4 * q.grad().abs().max().item<float>());
  EXPECT_LT((k.grad() - toy.k.grad()).abs().max().item<float>(),
            1e-4 * k.grad().abs().max().item<float>());
}

TEST(HammingAttention, RefusesToBeDifferentiatedTwice) {
  Toy toy;
  toy.v.requires_grad_();
  const auto loss = toy.attend(Semantics::kPaper).square().sum();
  EXPECT_THROW(
      torch::autograd::grad({loss}, {toy.v}, {}, /*retain_graph=*/true, /*create_graph=*/true),
      c10::Error);
}

TEST(HammingAttention, NamesWhatDoesNotFit) {
  const Toy toy;
  const auto state = toy.hash->state();
  const auto message = [&](const Tensor& q, const Tensor& k, const Tensor& v, const Masks& masks) {
    try {
      hamming_attention(q, k, v, state, Semantics::kPaper, 8, {}, masks);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string("no error");
  };
  EXPECT_NE(message(toy.q[0], toy.k, toy.v, {}).find("4 dims [B, H, N, D]"), std::string::npos);
  EXPECT_NE(message(toy.q, toy.k.narrow(3, 0, 4), toy.v, {}).find("to match q"), std::string::npos);
  EXPECT_NE(message(toy.q, toy.k, toy.v.narrow(2, 0, 4), {}).find("to match k"), std::string::npos);
  EXPECT_NE(message(toy.q, toy.k, toy.v, {.keys = torch::ones({2, 3}, torch::kBool), .queries = {}})
                .find("key mask bool [2, 37]"),
            std::string::npos);
}

}  // namespace
}  // namespace ecoformer::nn
