// Our learner: better than random, at least as good as the authors', robust, seeded.

#include "ecoformer/nn/hash_learner.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <iostream>
#include <limits>

#include "ecoformer/base/error.h"
#include "nn/toy.h"

namespace ecoformer::nn {
namespace {

using torch::Tensor;

/// Tokens around random centres, as attention features cluster.
Tensor clustered(std::int64_t samples, std::int64_t heads, std::int64_t tokens, std::int64_t dim,
                 std::uint64_t seed) {
  const auto centres = normal({1, heads, 12, dim}, seed);
  const auto which =
      torch::randint(0, 12, {tokens * samples}, at::make_generator<at::CPUGeneratorImpl>(seed));
  const auto chosen =
      centres.index_select(2, which).view({heads, samples, tokens, dim}).transpose(0, 1);
  return chosen + 0.6 * normal({samples, heads, tokens, dim}, seed + 1);
}

/// How well codes rank the keys of a query by q.k: means over samples, heads and queries.
struct Quality {
  double recall;       ///< share of a query's true top 10 keys among its 20 Hamming-nearest
  double correlation;  ///< of code product and q.k
};

Quality quality(const HashFunction& hash, const Tensor& q, const Tensor& k) {
  constexpr std::int64_t kNeighbours = 10;
  const auto bits = hash->options().bits;
  const auto scores = q.matmul(k.transpose(-1, -2));
  const auto product =
      unpack_codes(hash->encode(q), bits)
          .to(torch::kFloat32)
          .matmul(unpack_codes(hash->encode(k), bits).to(torch::kFloat32).transpose(-1, -2));
  const auto marked = [](const Tensor& values, std::int64_t count) {
    return torch::zeros_like(values).scatter_(-1, std::get<1>(values.topk(count, -1)), 1);
  };
  const auto found = (marked(scores, kNeighbours) * marked(product, 2 * kNeighbours)).sum(-1);
  const auto a = scores - scores.mean(-1, true);
  const auto b = product - product.mean(-1, true);
  const auto correlation = (a * b).sum(-1) / (a.norm(2, -1) * b.norm(2, -1)).clamp_min(1e-12);
  return {found.mean().item<double>() / kNeighbours, correlation.mean().item<double>()};
}

TEST(HashLearner, RanksNeighboursBetterThanTheAuthorsLearner) {
  const auto x = clustered(4, 2, 196, 32, 3);
  const auto unit = x / x.norm(2, -1, true);
  const HashOptions options{.heads = 2, .dim = 32};
  HashFunction theirs(options, 9);
  learn_official(*theirs, x, unit.index({0}).narrow(1, 0, 25).unsqueeze(0));
  HashFunction ours(options, 9);
  HashLearner({}).learn(*ours, x, x);
  const auto before = quality(theirs, unit, unit);
  const auto after = quality(ours, unit, unit);
  std::cout << "recall " << before.recall << " -> " << after.recall << ", correlation "
            << before.correlation << " -> " << after.correlation << '\n';
  EXPECT_GT(after.recall, before.recall);
  EXPECT_GT(after.correlation, before.correlation);
}

TEST(HashLearner, UntiedQueriesAndKeysShareOneFunction) {
  const auto x = clustered(4, 2, 150, 16, 5);
  const auto q = x.matmul(normal({16, 16}, 21)) / 4;
  const auto k = x.matmul(normal({16, 16}, 22)) / 4;
  const HashOptions options{.heads = 2, .dim = 16};
  const HashFunction random = random_hash(options, 4);
  HashFunction learned(options, 4);
  HashLearner({}).learn(*learned, q, k);
  EXPECT_TRUE(learned->is_learned());
  // A random function knows nothing of how q relates to k; 20 of 150 keys by chance hold 0.13
  // of 10.
  EXPECT_GT(quality(learned, q, k).recall, quality(random, q, k).recall);
  EXPECT_GT(quality(learned, q, k).recall, 2 * 20.0 / 150);
}

TEST(HashLearner, SameSeedSameBits) {
  const auto x = clustered(2, 2, 60, 16, 6);
  const HashOptions options{.heads = 2, .dim = 16};
  HashFunction first(options), second(options), other(options);
  HashLearner({.seed = 1}).learn(*first, x, x);
  HashLearner({.seed = 1}).learn(*second, x, x);
  HashLearner({.seed = 2}).learn(*other, x, x);
  EXPECT_TRUE(torch::equal(first->A, second->A));
  EXPECT_TRUE(torch::equal(first->anchor, second->anchor));
  EXPECT_FALSE(torch::equal(first->anchor, other->anchor));
}

TEST(HashLearner, PaddingIsNotLookedAt) {
  const auto x = clustered(3, 2, 60, 16, 6);
  auto padded = torch::full({3, 2, 75, 16}, std::numeric_limits<float>::quiet_NaN());
  padded.narrow(2, 0, 60).copy_(x);
  const auto mask = torch::arange(75).lt(60).unsqueeze(0).expand({3, 75}).contiguous();
  const HashOptions options{.heads = 2, .dim = 16};
  HashFunction bare(options), masked(options);
  HashLearner({}).learn(*bare, x, x);
  HashLearner({}).learn(*masked, padded, padded, mask, mask);
  EXPECT_TRUE(torch::equal(bare->A, masked->A));
  EXPECT_TRUE(torch::equal(bare->sigma, masked->sigma));
}

TEST(HashLearner, DegenerateTokensGiveFiniteState) {
  const auto same = torch::ones({2, 1, 40, 8});
  HashFunction hash(HashOptions{.heads = 1, .dim = 8, .supports = 5});
  HashLearner({}).learn(*hash, same, same);
  EXPECT_TRUE(hash->A.isfinite().all().item<bool>());
  EXPECT_GT(hash->sigma[0].item<float>(), 0);
}

TEST(HashLearner, RefusesWhatItCannotLearnFrom) {
  const HashOptions options{.heads = 1, .dim = 8};
  HashFunction hash(options);
  const auto few = normal({1, 1, 24, 8}, 1);
  EXPECT_THROW(HashLearner({}).learn(*hash, few, few), Error);  // 24 tokens, 25 supports
  const auto shorts = normal({10, 1, 19, 8}, 1);
  EXPECT_THROW(HashLearner({}).learn(*hash, shorts, shorts), Error);  // 19 keys, 2 x 10 neighbours
  auto broken = normal({1, 1, 50, 8}, 1);
  broken[0][0][3][2] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(HashLearner({}).learn(*hash, broken, broken), Error);
  EXPECT_FALSE(hash->is_learned());
  EXPECT_THROW(learn_official(*hash, few, normal({1, 1, 25, 8}, 2)), Error);
}

}  // namespace
}  // namespace ecoformer::nn
