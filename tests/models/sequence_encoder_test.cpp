// SequenceEncoder: shape, seeds, padding, strict configuration.

#include "ecoformer/models/sequence_encoder.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>
#include <string>

#include "ecoformer/base/error.h"
#include "ecoformer/io/state.h"
#include "ecoformer/nn/hash_learner.h"

namespace ecoformer::models {
namespace {

using nlohmann::json;
using torch::Tensor;

SequenceEncoderConfig tiny(const std::string& mechanism) {
  SequenceEncoderConfig config;
  config.vocabulary = 20;
  config.positions = 64;
  config.classes = 4;
  config.width = 16;
  config.mlp_width = 24;
  config.head_width = 12;
  config.attention.mechanism = mechanism;
  config.attention.supports = 9;
  return config;
}

Tensor ids(std::int64_t samples, std::int64_t length) {
  return torch::randint(1, 20, {samples, length}, at::make_generator<at::CPUGeneratorImpl>(3),
                        torch::TensorOptions(torch::kInt64));
}

/// Learns every hash function from one batch, in the order the forward pass meets them.
void learn(SequenceEncoder& model, const Tensor& tokens, const Tensor& mask) {
  for (const auto& attention : model->attentions()) {
    if (auto* eco = attention->as<nn::EcoAttention>()) {
      eco->observe([eco](const Tensor& q, const Tensor& k, const Tensor&, const nn::Masks& masks) {
        nn::HashLearner({}).learn(*eco->ksh, q, k, masks.queries, masks.keys);
      });
    }
  }
  model->forward(tokens, mask);
  for (const auto& attention : model->attentions()) attention->observe(nullptr);
}

TEST(SequenceEncoder, HasTheParametersOfTheRecipe) {
  std::int64_t total = 0;
  for (const auto& parameter : SequenceEncoder(SequenceEncoderConfig{})->parameters()) {
    total += parameter.numel();
  }
  EXPECT_EQ(total, 209802);
}

TEST(SequenceEncoder, HoldsAsManyElementsAsItsConfigurationSays) {
  for (const char* mechanism : {"softmax", "eco"}) {
    for (const nn::Projection projection : {nn::Projection::kUntied, nn::Projection::kTied}) {
      SequenceEncoderConfig config = tiny(mechanism);
      config.projection = projection;
      std::int64_t elements = 0;
      for (const auto& [name, tensor] : io::state_of(*SequenceEncoder(config))) {
        elements += tensor.numel();
      }
      EXPECT_EQ(state_elements(config), elements) << mechanism << ", " << to_string(projection);
    }
  }
}

TEST(SequenceEncoder, SameSeedSameWeights) {
  const SequenceEncoder first(tiny("eco"), 5), second(tiny("eco"), 5), other(tiny("eco"), 6);
  const auto values = [](const SequenceEncoder& model) {
    std::vector<Tensor> flat;
    for (const auto& parameter : model->parameters()) flat.push_back(parameter.detach().flatten());
    for (const auto& buffer : model->buffers()) flat.push_back(buffer.flatten());
    return torch::cat(flat);
  };
  EXPECT_TRUE(torch::equal(values(first), values(second)));
  EXPECT_FALSE(torch::equal(values(first), values(other)));
}

TEST(SequenceEncoder, PaddingChangesNothing) {
  for (const std::string mechanism : {"softmax", "eco"}) {
    SequenceEncoder model(tiny(mechanism), 1);
    model->eval();
    const torch::NoGradGuard no_grad;
    const auto tokens = ids(3, 40);
    const auto real = torch::ones({3, 40}, torch::kBool);
    learn(model, tokens, real);
    const auto padding = torch::zeros({3, 13}, torch::kInt64);
    const auto padded = torch::cat({tokens, padding}, 1);
    const auto mask = torch::cat({real, padding.to(torch::kBool)}, 1);
    // Matrix products and softmax over other shapes round differently; codes near zero do not occur
    // here.
    EXPECT_LT(
        (model->forward(padded, mask) - model->forward(tokens, real)).abs().max().item<float>(),
        1e-5)
        << mechanism;
  }
}

TEST(SequenceEncoder, ASampleOfPaddingOnlyIsFinite) {
  for (const std::string mechanism : {"softmax", "eco"}) {
    SequenceEncoder model(tiny(mechanism), 1);
    model->eval();
    auto mask = torch::ones({2, 40}, torch::kBool);
    mask[1].fill_(false);
    learn(model, ids(2, 40), mask);
    EXPECT_TRUE(model->forward(ids(2, 40), mask).isfinite().all().item<bool>()) << mechanism;
  }
}

TEST(SequenceEncoder, RefusesTokensItHasNoRowsFor) {
  SequenceEncoder model(tiny("softmax"), 1);
  EXPECT_THROW(model->forward(ids(1, 65), torch::ones({1, 65}, torch::kBool)), InputError);
  EXPECT_THROW(
      model->forward(torch::full({1, 3}, 20, torch::kInt64), torch::ones({1, 3}, torch::kBool)),
      InputError);
}

TEST(SequenceEncoderConfig, RoundTripsThroughJson) {
  auto config = tiny("eco");
  config.dropout = 0.25;
  config.projection = nn::Projection::kTied;
  config.attention.semantics = nn::Semantics::kPaper;
  config.attention.bandwidth = nn::Bandwidth::kPerInput;
  const json written = to_json(config);
  EXPECT_EQ(to_json(sequence_encoder_config_from_json(written)), written);
  EXPECT_EQ(written.at("attention"), "eco");
  EXPECT_EQ(written.at("projection"), "tied");
}

TEST(SequenceEncoderConfig, RefusesWhatItDoesNotUnderstand) {
  const auto message = [](const json& given) {
    try {
      sequence_encoder_config_from_json(given);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message({{"wdith", 64}}), "model config: unknown key 'wdith'");
  EXPECT_EQ(message({{"width", "wide"}}),
            "model config: expected an integer for 'width', got \"wide\"");
  EXPECT_EQ(message({{"dropout", true}}),
            "model config: expected a number for 'dropout', got true");
  EXPECT_EQ(message({{"width", 10}, {"heads", 4}}),
            "model config: expected 'width' to be a multiple of 'heads', got 10 and 4");
  EXPECT_EQ(message({{"bits", 65}}), "model config: expected 'bits' in [1, 64], got 65");
  EXPECT_EQ(message({{"group_bits", 5}}), "model config: expected 'group_bits' 4 or 8, got 5");
  EXPECT_NE(message({{"semantics", "papers"}}).find("expected one of paper, official, exponential"),
            std::string::npos);
  EXPECT_NE(message(json::array()).find("expected a JSON object"), std::string::npos);
}

}  // namespace
}  // namespace ecoformer::models
