// Parity with the authors' code through the fixtures it computed: codes, outputs, gradients,
// learning.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <iostream>
#include <string>

#include "ecoformer/io/safetensors.h"
#include "ecoformer/nn/hamming_attention.h"
#include "ecoformer/nn/hash_function.h"
#include "ecoformer/nn/hash_learner.h"

namespace ecoformer::nn {
namespace {

using torch::Tensor;

class Parity : public testing::TestWithParam<const char*> {
 protected:
  static io::TensorFile fixture(const std::string& kind) {
    return io::read_safetensors(std::filesystem::path(ECO_FIXTURES) /
                                (kind + "_" + GetParam() + ".safetensors"));
  }

  static HashFunction hash_of(const io::TensorFile& file) {
    const auto& support = file.tensors.at("supports");
    const auto& weight = file.tensors.at("weight");
    HashFunction hash(HashOptions{.heads = support.size(1),
                                  .dim = support.size(3),
                                  .bits = weight.size(1),
                                  .supports = support.size(2),
                                  .bandwidth = Bandwidth::kPerInput});
    hash->anchor.copy_(support);
    hash->mvec.copy_(file.tensors.at("kernel_mean"));
    hash->A.copy_(weight);
    return hash;
  }
};

TEST_P(Parity, CodesAndOutput) {
  const auto file = fixture("attention");
  const HashFunction hash = hash_of(file);
  const auto& qk = file.tensors.at("qk");
  const auto codes = unpack_codes(hash->encode(qk), hash->options().bits);
  const auto differing = codes.ne(file.tensors.at("codes"));
  // A bit may differ only where its projection is within float rounding of zero.
  const auto certain = hash->project(qk).abs().ge(1e-5);
  EXPECT_EQ(differing.logical_and(certain).sum().item<std::int64_t>(), 0);
  const auto flipped = differing.sum().item<std::int64_t>();
  std::cout << flipped << " of " << differing.numel() << " bits differ, all where |y| < 1e-5\n";

  const auto out =
      hamming_attention(qk, qk, file.tensors.at("v"), hash->state(), Semantics::kOfficial, 8);
  if (flipped == 0) {
    EXPECT_LT((out - file.tensors.at("output")).abs().max().item<float>(), 1e-5);
  }
  // The lookup itself, from the authors' own codes, must agree whatever the hash did.
  const auto powers = torch::arange(hash->options().bits, torch::kInt64);
  const auto packed =
      file.tensors.at("codes").gt(0).to(torch::kInt64).bitwise_left_shift(powers).sum(-1);
  for (const std::int64_t group_bits : {4, 8}) {
    const auto looked_up = attend_codes(packed, packed, file.tensors.at("v"), hash->options().bits,
                                        Semantics::kOfficial, group_bits);
    EXPECT_LT((looked_up - file.tensors.at("output")).abs().max().item<float>(), 1e-5);
  }
}

TEST_P(Parity, Gradients) {
  const auto file = fixture("gradient");
  const HashFunction hash = hash_of(file);
  const auto qk = file.tensors.at("qk").clone().requires_grad_();
  const auto v = file.tensors.at("v").clone().requires_grad_();
  const auto out = hamming_attention(qk, qk, v, hash->state(), Semantics::kOfficial, 8);
  (out * file.tensors.at("output_grad")).sum().backward();
  const auto relative = [](const Tensor& ours, const Tensor& theirs) {
    return ((ours - theirs).abs().max() / theirs.abs().max()).item<float>();
  };
  EXPECT_LT(relative(v.grad(), file.tensors.at("v_grad")), 1e-4);
  EXPECT_LT(relative(qk.grad(), file.tensors.at("qk_grad")), 1e-4);
}

TEST_P(Parity, OfficialLearnerEndsAtTheirCodes) {
  const auto file = fixture("attention");
  const auto& qk = file.tensors.at("qk");
  EXPECT_TRUE(torch::equal(official_affinity(qk, 10), file.tensors.at("affinity")));
  HashFunction hash = hash_of(file);
  hash->A.copy_(file.tensors.at("initial_weight"));
  learn_official(*hash, qk, file.tensors.at("supports"));
  const auto same =
      unpack_codes(hash->encode(qk), hash->options().bits).eq(file.tensors.at("codes"));
  EXPECT_GE(same.to(torch::kFloat64).mean().item<double>(), 0.999);
  EXPECT_LT((hash->mvec - file.tensors.at("kernel_mean")).abs().max().item<float>(), 1e-5);
  // The weights themselves: 100 small steps a bit, float rounding on either side.
  EXPECT_LT((hash->A - file.tensors.at("weight")).abs().max().item<float>(), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Parity,
                         testing::Values("b1_h5_n196_d32", "b2_h1_n64_d32", "b2_h4_n50_d64",
                                         "b3_h2_n197_d16"));

}  // namespace
}  // namespace ecoformer::nn
