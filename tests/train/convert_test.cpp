// Conversion: weights kept, hash functions learned, sharpness fitted, quality reported.
#include "ecoformer/train/convert.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "ecoformer/base/error.h"
#include "ecoformer/io/state.h"
#include "gmock/gmock.h"
#include "train/beta_fit.h"
#include "train/toy.h"

namespace ecoformer::train {
namespace {

using ::testing::HasSubstr;

ConvertOptions toy_options(nn::Projection projection) {
  ConvertOptions options;
  options.projection = projection;
  options.attention.bits = 8;
  options.attention.supports = 6;
  options.attention.group_bits = 4;
  options.learner.neighbours = 4;
  options.examples = 12;
  options.seed = 5;
  return options;
}

std::string complaint(const models::SequenceEncoderConfig& config, const ConvertOptions& options) {
  try {
    convert(std::make_shared<models::SequenceEncoderImpl>(config), toy_examples(20, 1), options);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Convert, UntiedKeepsEveryDenseTensor) {
  const auto dense = toy_model("softmax", 3);
  std::map<std::string, torch::Tensor> before;
  for (const auto& [name, tensor] : io::state_of(*dense)) before[name] = tensor.clone();
  const SequenceExamples data = toy_examples(20, 1);
  const Conversion conversion = convert(dense, data, toy_options(nn::Projection::kUntied));

  const auto after = io::state_of(*conversion.model);
  for (const auto& [name, tensor] : before) {
    EXPECT_TRUE(tensor.equal(io::state_of(*dense).at(name))) << name;
    ASSERT_TRUE(after.contains(name)) << name;
    EXPECT_TRUE(tensor.equal(after.at(name))) << name;
  }
  EXPECT_EQ(conversion.model->config_json().at("attention"), "eco");
  for (const auto& layer : conversion.model->attentions()) {
    EXPECT_TRUE(dynamic_cast<nn::EcoAttention&>(*layer).ksh->is_learned());
  }
  const Conversion again = convert(dense, data, toy_options(nn::Projection::kUntied));
  for (const auto& [name, tensor] : io::state_of(*again.model)) {
    EXPECT_TRUE(tensor.equal(after.at(name))) << name;
  }
}

TEST(Convert, TiedTakesTheQueryRows) {
  const auto dense = toy_model("softmax", 3);
  const Conversion conversion =
      convert(dense, toy_examples(20, 1), toy_options(nn::Projection::kTied));
  const auto before = io::state_of(*dense), after = io::state_of(*conversion.model);
  const std::string layer = "blocks.1.attn.";
  const torch::Tensor qkv = before.at(layer + "qkv.weight");
  EXPECT_TRUE(after.at(layer + "to_qk.weight").equal(qkv.slice(0, 0, 16)));
  EXPECT_TRUE(after.at(layer + "to_v.weight").equal(qkv.slice(0, 32, 48)));
  EXPECT_TRUE(after.at(layer + "proj.weight").equal(before.at(layer + "proj.weight")));
  EXPECT_FALSE(after.contains(layer + "qkv.weight"));
  EXPECT_EQ(conversion.model->config_json().at("projection"), "tied");
}

TEST(Convert, ReportsEachHead) {
  const Conversion conversion =
      convert(toy_model("softmax", 3), toy_examples(20, 1), toy_options(nn::Projection::kUntied));
  ASSERT_EQ(conversion.heads.size(), 4u);
  double recall = 0, chance = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const HeadReport& report = conversion.heads[i];
    EXPECT_EQ(report.layer, static_cast<std::int64_t>(i / 2));
    EXPECT_EQ(report.head, static_cast<std::int64_t>(i % 2));
    EXPECT_GE(report.recall, 0);
    EXPECT_LE(report.recall, 1);
    EXPECT_LE(std::abs(report.pearson), 1);
    EXPECT_LE(std::abs(report.spearman), 1);
    ASSERT_TRUE(report.sigma && report.beta);
    // |x - s|^2 of unit vectors is at most 4.
    EXPECT_GT(*report.sigma, 0);
    EXPECT_LE(*report.sigma, 4);
    EXPECT_GE(*report.beta, 0);
    EXPECT_LE(*report.beta, nn::kMaxBeta);
    const auto& eco = dynamic_cast<nn::EcoAttention&>(*conversion.model->attentions()[i / 2]);
    EXPECT_FLOAT_EQ(eco.beta[report.head].item<float>(), static_cast<float>(*report.beta));
    recall += report.recall;
    chance += report.chance_recall;
  }
  EXPECT_GT(recall, chance);
}

TEST(Convert, LeavesOutWhatASemanticsDoesNotHave) {
  ConvertOptions options = toy_options(nn::Projection::kTied);
  options.attention.semantics = nn::Semantics::kOfficial;
  options.attention.bandwidth = nn::Bandwidth::kPerInput;
  const Conversion conversion = convert(toy_model("softmax", 3), toy_examples(20, 1), options);
  EXPECT_FALSE(conversion.heads.front().sigma);
  EXPECT_FALSE(conversion.heads.front().beta);
}

TEST(Convert, RefusesWhatItCannotConvert) {
  EXPECT_THAT(complaint(toy_model_config("eco"), toy_options(nn::Projection::kUntied)),
              HasSubstr("'eco'"));
  models::SequenceEncoderConfig tied = toy_model_config("softmax");
  tied.projection = nn::Projection::kTied;
  EXPECT_THAT(complaint(tied, toy_options(nn::Projection::kUntied)), HasSubstr("tied"));
  EXPECT_EQ(complaint(tied, toy_options(nn::Projection::kTied)), "");
  ConvertOptions wide = toy_options(nn::Projection::kUntied);
  wide.attention.bits = 65;
  EXPECT_NE(complaint(toy_model_config("softmax"), wide), "");
  ConvertOptions many = toy_options(nn::Projection::kUntied);
  many.attention.supports = 1000;
  EXPECT_THAT(complaint(toy_model_config("softmax"), many), HasSubstr("1000"));
  ConvertOptions far = toy_options(nn::Projection::kUntied);
  far.learner.neighbours = 40;
  EXPECT_THAT(complaint(toy_model_config("softmax"), far), HasSubstr("80"));
  models::SequenceEncoderConfig narrow = toy_model_config("softmax");
  narrow.positions = 22;
  EXPECT_THAT(complaint(narrow, toy_options(nn::Projection::kUntied)), HasSubstr("22"));
}

/// Rows whose attention is exponential with the given beta; every fifth key is padded.
AttentionRows planted_rows(double beta) {
  constexpr std::int64_t kRows = 12, kKeys = 60, kGroups = 2;
  std::mt19937_64 engine(11);
  torch::Tensor distances = torch::empty({kRows, kKeys, kGroups}, torch::kUInt8);
  auto* d = distances.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t i = 0; i < distances.numel(); ++i) {
    d[i] = static_cast<std::uint8_t>(engine() % 9);
  }
  const torch::Tensor mask =
      torch::arange(kKeys).remainder(5).ne(4).unsqueeze(0).repeat({kRows, 1});
  const torch::Tensor scores = distances.to(torch::kFloat64).mul(-2 * beta).exp().sum(-1).log();
  return {.scores = scores.to(torch::kFloat32), .mask = mask, .distances = distances};
}

TEST(FitBeta, RecoversAPlantedBeta) {
  for (const double beta : {0.0, 0.013, 0.35, 1.7, 4.99, nn::kMaxBeta}) {
    // The search ends at an interval of 1e-4; near its minimum the loss is flat, and scores rounded
    // to float32 move it by a few 1e-4 where weights hardly depend on beta.
    EXPECT_NEAR(fit_beta(planted_rows(beta)), beta, 2e-3);
  }
}

TEST(RankQuality, IsPerfectForPerfectDistances) {
  const torch::Tensor order = torch::arange(50).unsqueeze(0);
  const AttentionRows rows{.scores = order.neg().to(torch::kFloat32),
                           .mask = torch::ones({1, 50}, torch::kBool),
                           .distances = order.unsqueeze(-1).to(torch::kUInt8)};
  const RankQuality quality = rank_quality(rows);
  EXPECT_EQ(quality.recall, 1);
  EXPECT_EQ(quality.chance_recall, 0.4);
  EXPECT_NEAR(quality.pearson, 1, 1e-12);
  EXPECT_NEAR(quality.spearman, 1, 1e-12);
}

TEST(RankQuality, IsChanceWhereAllKeysAreEquallyFar) {
  const AttentionRows rows{.scores = torch::arange(50).unsqueeze(0).to(torch::kFloat32),
                           .mask = torch::ones({1, 50}, torch::kBool),
                           .distances = torch::ones({1, 50, 2}, torch::kUInt8)};
  const RankQuality quality = rank_quality(rows);
  EXPECT_NEAR(quality.recall, quality.chance_recall, 1e-12);
  EXPECT_EQ(quality.pearson, 0);
  EXPECT_EQ(quality.spearman, 0);
}

TEST(RankQuality, DoesNotSeePaddedKeys) {
  AttentionRows rows = planted_rows(0.7);
  const RankQuality before = rank_quality(rows);
  rows.scores = torch::where(rows.mask, rows.scores, torch::full_like(rows.scores, 1e9));
  const RankQuality after = rank_quality(rows);
  EXPECT_EQ(before.recall, after.recall);
  EXPECT_EQ(before.pearson, after.pearson);
  EXPECT_EQ(before.spearman, after.spearman);
  EXPECT_DOUBLE_EQ(before.chance_recall, 20.0 / 48);
}

}  // namespace
}  // namespace ecoformer::train
