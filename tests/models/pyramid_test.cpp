// PVTv2 and Twins: the authors' logits, any image size, gradients, and what is refused.

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors.h"
#include "ecoformer/io/state.h"
#include "ecoformer/models/pvt_v2.h"
#include "ecoformer/models/recognise.h"
#include "ecoformer/models/state_names.h"
#include "ecoformer/models/twins.h"
#include "ecoformer/nn/hash_learner.h"
#include "models/shapes.h"

namespace ecoformer::models {
namespace {

using torch::Tensor;

Tensor random_images(std::int64_t samples, std::int64_t height, std::int64_t width) {
  return torch::randn({samples, 3, height, width}, at::make_generator<at::CPUGeneratorImpl>(3));
}

/// The model of a fixture, as its metadata describes it, with its weights.
std::shared_ptr<Classifier> load(const io::TensorFile& file) {
  const Recognised found = recognise(shapes_of(file.tensors), file.metadata);
  auto model = make_classifier(found.architecture.type, found.architecture.config);
  std::map<std::string, Tensor> state;
  for (const auto& [name, tensor] : file.tensors) {
    if (!is_unused_state(name)) state.emplace(name, tensor);
  }
  io::load_state(*model, state, file.source);
  model->eval();
  return model;
}

/// Learns every hash function from one batch, in the order the forward pass meets them.
void learn(Classifier& model, const Tensor& images) {
  const torch::NoGradGuard no_grad;
  for (const auto& attention : model.attentions()) {
    if (auto* eco = attention->as<nn::EcoAttention>()) {
      eco->observe([eco](const Tensor& q, const Tensor& k, const Tensor&, const nn::Masks&) {
        nn::HashLearner({}).learn(*eco->ksh, q, k, {}, {});
      });
    }
  }
  model.forward(images, {});
  for (const auto& attention : model.attentions()) attention->observe(nullptr);
}

class Fixture : public testing::TestWithParam<const char*> {};

TEST_P(Fixture, GivesTheAuthorsLogits) {
  const auto file =
      io::read_safetensors(std::string(ECO_FIXTURES) + "/model_" + GetParam() + ".safetensors");
  const auto model = load(file);
  // Projections that another order of summation may move across zero, and so a bit.
  std::int64_t near_zero = 0;
  std::int64_t bits = 0;
  for (const auto& attention : model->attentions()) {
    if (auto* eco = attention->as<nn::EcoAttention>()) {
      eco->observe([&, eco](const Tensor& q, const Tensor&, const Tensor&, const nn::Masks&) {
        const Tensor y = eco->ksh->project(q);
        near_zero += y.abs().lt(1e-5).sum().item<std::int64_t>();
        bits += y.numel();
      });
    }
  }
  const torch::NoGradGuard no_grad;
  const Tensor logits = model->forward(io::take(file, "fixture.input"), {});
  const Tensor expected = io::take(file, "fixture.logits");
  const double error = ((logits - expected).norm() / expected.norm()).item<double>();
  RecordProperty("bits_near_zero", std::to_string(near_zero));
  RecordProperty("relative_error", std::to_string(error));
  // Rounding alone stays far below 1e-4 (a dozen layers at 1e-7 each); a flipped bit moves one
  // token of one head by about 1 / N.
  EXPECT_LT(error, near_zero > 0 ? 1e-2 : 1e-4)
      << near_zero << " of " << bits << " projections within 1e-5 of zero";
}

INSTANTIATE_TEST_SUITE_P(All, Fixture,
                         testing::Values("pvt_v2_tiny_ecoformer", "pvt_v2_tiny_msa",
                                         "pvt_v2_tiny_sra", "twins_svt_tiny_ecoformer",
                                         "twins_svt_tiny_msa", "twins_svt_tiny_svt"),
                         [](const auto& test) { return std::string(test.param); });

/// Small models of every family and kind of attention, eco ones learned on `images`, whose third
/// stage needs 20 tokens for that.
std::vector<std::shared_ptr<Classifier>> every_kind(const Tensor& images) {
  std::vector<std::shared_ptr<Classifier>> models;
  const auto add = [&](const auto& config) {
    models.push_back(make_classifier(
        std::is_same_v<std::decay_t<decltype(config)>, PvtV2Config> ? "pvt_v2" : "twins",
        to_json(config), 7));
    models.back()->eval();
    learn(*models.back(), images);
  };
  const auto shrink = [](PyramidConfig& config, const char* mechanism) {
    config.widths = {8, 16, 24, 32};
    config.depths = {2, 1, 1, 1};
    config.heads = {1, 2, 3, 4};
    config.classes = 5;
    config.attention.mechanism = mechanism;
    config.attention.supports = 4;
    config.attention.bits = 4;
  };
  for (const char* mechanism : {kOriginalAttention, "softmax", "eco"}) {
    PvtV2Config pvt;
    shrink(pvt, mechanism);
    add(pvt);
    TwinsConfig svt;
    shrink(svt, mechanism);
    svt.windows = {3, 3, 3, 3};
    add(svt);
  }
  PvtV2Config linear;
  shrink(linear, kOriginalAttention);
  linear.linear = true;
  add(linear);
  TwinsConfig pcpvt;
  shrink(pcpvt, kOriginalAttention);
  pcpvt.windows.clear();
  add(pcpvt);
  return models;
}

TEST(Pyramid, TakesAnyImageSizeAndEachSampleAlone) {
  const auto models = every_kind(random_images(2, 96, 96));
  const torch::NoGradGuard no_grad;
  for (const auto& model : models) {
    for (const auto& [height, width] : {std::pair{64, 64}, {50, 77}, {33, 96}}) {
      const Tensor images = random_images(3, height, width);
      const Tensor logits = model->forward(images, {});
      EXPECT_EQ(logits.sizes(), (std::vector<std::int64_t>{3, 5}));
      EXPECT_TRUE(logits.isfinite().all().item<bool>());
      // A sample does not see the others: reversing the batch reverses the logits. Products over
      // another row of the same matrix may round differently, hence not exactly.
      EXPECT_TRUE(torch::allclose(model->forward(images.flip(0), {}).flip(0), logits, 1e-4, 1e-5))
          << model->config_json();
    }
  }
}

TEST(Pyramid, InfersInBfloat16WithHashFunctionsInFloat32) {
  const Tensor images = random_images(4, 96, 96);
  const torch::NoGradGuard no_grad;
  for (const auto& model : every_kind(images)) {
    const Tensor exact = model->forward(images, {});
    set_inference_dtype(*model, torch::kBFloat16);
    const Tensor rounded = model->forward(images, {});
    EXPECT_EQ(rounded.scalar_type(), torch::kFloat32);
    for (const auto& buffer : model->named_buffers()) {
      EXPECT_EQ(buffer.value().scalar_type(), torch::kFloat32) << buffer.key();
    }
    // Each of about 30 operations rounds to 8 bits, 2^-9 at most; they add up like a random walk,
    // and the mean over tokens may cancel to a fifth of what they rounded.
    const double error = ((rounded - exact).norm() / exact.norm()).item<double>();
    EXPECT_LT(error, 0.1) << model->config_json();
    EXPECT_GT(error, 0);
  }
}

TEST(Pyramid, MapsArePaddedToWholeWindowsWithZeros) {
  // A map of 2 x 3 tokens in one window of 3 x 3: by hand, attention over 9 tokens of which 3 are
  // the projections of zeros.
  TwinsConfig config;
  config.channels = 1;
  config.classes = 2;
  config.widths = {4};
  config.depths = {1};
  config.heads = {2};
  config.mlp_ratios = {1};
  config.sr_ratios = {1};
  config.windows = {3};
  config.patch_size = 1;
  Twins model(config, 1);
  model->eval();
  const torch::NoGradGuard no_grad;
  std::map<std::string, Tensor> state = io::state_of(*model);
  for (auto& [name, tensor] : state)
    tensor.normal_(0, 1, at::make_generator<at::CPUGeneratorImpl>(name.size()));
  const Tensor image = torch::randn({1, 1, 2, 3}, at::make_generator<at::CPUGeneratorImpl>(5));
  const auto norm = [&](const Tensor& x, const std::string& name, double eps) {
    return torch::layer_norm(x, {4}, state.at(name + ".weight"), state.at(name + ".bias"), eps);
  };
  const auto linear = [&](const Tensor& x, const std::string& name) {
    return torch::linear(x, state.at(name + ".weight"), state.at(name + ".bias"));
  };
  Tensor x = torch::conv2d(image, state.at("patch_embeds.0.proj.weight"),
                           state.at("patch_embeds.0.proj.bias"));
  x = norm(x.flatten(2).transpose(1, 2), "patch_embeds.0.norm", 1e-5);
  const Tensor padded = torch::cat({norm(x, "blocks.0.0.norm1", 1e-6), torch::zeros({1, 3, 4})}, 1);
  const auto qkv = linear(padded, "blocks.0.0.attn.qkv").view({9, 3, 2, 2}).permute({1, 2, 0, 3});
  const Tensor weights = torch::softmax(qkv[0].matmul(qkv[1].transpose(1, 2)) / std::sqrt(2.0), -1);
  const Tensor attended = weights.matmul(qkv[2]).transpose(0, 1).reshape({1, 9, 4}).narrow(1, 0, 6);
  x = x + linear(attended, "blocks.0.0.attn.proj");
  x = x + linear(torch::gelu(linear(norm(x, "blocks.0.0.norm2", 1e-6), "blocks.0.0.mlp.fc1")),
                 "blocks.0.0.mlp.fc2");
  const Tensor map = x.transpose(1, 2).reshape({1, 4, 2, 3});
  const Tensor position =
      torch::conv2d(map, state.at("pos_block.0.proj.0.weight"), state.at("pos_block.0.proj.0.bias"),
                    /*stride=*/1, /*padding=*/1,
                    /*dilation=*/1, /*groups=*/4);
  x = x + position.flatten(2).transpose(1, 2);
  const Tensor expected = linear(norm(x, "norm", 1e-6).mean(1), "head");
  EXPECT_TRUE(torch::allclose(model->forward(image, {}), expected, 1e-4, 1e-4));
}

TEST(Pyramid, GradientsReachEveryParameter) {
  for (const auto& model : every_kind(random_images(2, 96, 96))) {
    model->train();
    model->forward(random_images(2, 64, 64), {}).square().sum().backward();
    for (const auto& parameter : model->named_parameters()) {
      const Tensor& gradient = parameter.value().grad();
      EXPECT_TRUE(gradient.defined() && gradient.isfinite().all().item<bool>() &&
                  gradient.abs().sum().item<double>() > 0)
          << parameter.key() << " " << model->config_json();
    }
  }
}

TEST(Pyramid, SameSeedSameWeightsByTheAuthorsRule) {
  PvtV2Config config;
  const auto first = PvtV2(config, 5), second = PvtV2(config, 5), other = PvtV2(config, 6);
  const auto named = [](const PvtV2& model, const std::string& name) {
    return model->named_parameters()[name].detach();
  };
  for (const auto& parameter : first->named_parameters()) {
    EXPECT_TRUE(torch::equal(parameter.value(), named(second, parameter.key())));
  }
  const std::string linear = "block4.1.mlp.fc1.weight";
  EXPECT_FALSE(torch::equal(named(first, linear), named(other, linear)));
  // The spread of n normal draws has itself a relative spread of 1 / sqrt(2 n): 5 of them.
  const auto expect_spread = [&](const std::string& name, double spread) {
    const Tensor weight = named(first, name);
    const double relative = weight.std().item<double>() / spread - 1;
    EXPECT_LT(std::abs(relative), 5 / std::sqrt(2.0 * static_cast<double>(weight.numel()))) << name;
  };
  expect_spread(linear, 0.02);
  expect_spread("patch_embed2.proj.weight", std::sqrt(2.0 / (9 * 64)));
  expect_spread("block1.0.mlp.dwconv.dwconv.weight", std::sqrt(2.0 / 9));
}

TEST(Pyramid, DropPathNeedsAGeneratorAndRepeatsWithIt) {
  PvtV2Config config;
  config.widths = {8, 16, 24, 32};
  config.heads = {1, 1, 1, 1};
  config.drop_path = 0.5;
  const Tensor images = random_images(4, 32, 32);
  const auto model = make_classifier("pvt_v2", to_json(config), 1);
  EXPECT_THROW(model->forward(images, {}), Error);
  const auto drawn = [&](std::uint64_t seed) {
    model->use_generator(at::make_generator<at::CPUGeneratorImpl>(seed));
    return model->forward(images, {}).detach();
  };
  EXPECT_TRUE(torch::equal(drawn(1), drawn(1)));
  EXPECT_FALSE(torch::equal(drawn(1), drawn(2)));
}

TEST(Pyramid, RefusesImagesItCannotTake) {
  const auto model = make_classifier("pvt_v2", to_json(PvtV2Config()));
  EXPECT_THROW(model->forward(torch::zeros({1, 3, 28, 64}), {}), InputError);
  EXPECT_THROW(model->forward(torch::zeros({1, 1, 64, 64}), {}), InputError);
  EXPECT_THROW(model->forward(torch::zeros({3, 64, 64}), {}), InputError);
  EXPECT_THROW(model->forward(torch::zeros({1, 3, 64, 64}, torch::kUInt8), {}), InputError);
  EXPECT_THROW(model->forward(torch::zeros({1, 3, 64, 64}), torch::ones({1, 256}, torch::kBool)),
               InputError);
}

TEST(PyramidConfig, RoundTripsThroughJsonAndNamesWhatDoesNotFit) {
  PvtV2Config pvt;
  pvt.linear = true;
  pvt.drop_path = 0.3;
  pvt.attention.mechanism = "eco";
  pvt.projection = nn::Projection::kTied;
  EXPECT_EQ(to_json(pvt_v2_config_from_json(to_json(pvt))), to_json(pvt));
  TwinsConfig twins;
  twins.windows = {4, 4, 4, 4};
  EXPECT_EQ(to_json(twins_config_from_json(to_json(twins))), to_json(twins));

  const auto message = [](const char* type, const nlohmann::json& config) {
    try {
      make_classifier(type, config);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message("pvt_v2", {{"windows", {7, 7, 7, 7}}}), "model config: unknown key 'windows'");
  EXPECT_EQ(message("pvt_v2", {{"depths", {2, 2}}}),
            "model config: expected 4 entries in 'depths', one a stage, got 2");
  EXPECT_EQ(message("pvt_v2", {{"depths", 2}}),
            "model config: expected a list of integers for 'depths', got 2");
  EXPECT_EQ(message("pvt_v2", {{"heads", {3, 2, 5, 8}}}),
            "model config: expected 'widths' to be a multiple of 'heads', got 32 and 3");
  EXPECT_EQ(message("pvt_v2", {{"linear", 1}}),
            "model config: expected true or false for 'linear', got 1");
  EXPECT_EQ(message("twins", {{"windows", {7}}}),
            "model config: expected no or 4 entries in 'windows', one a stage, got 1");
  EXPECT_NE(message("twins", {{"attention", "hope"}}).find("got 'hope'"), std::string::npos);
  EXPECT_NE(message("giant", nlohmann::json::object()).find("got 'giant'"), std::string::npos);
}

}  // namespace
}  // namespace ecoformer::models
