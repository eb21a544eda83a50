// The published models: their sizes, and finding them again from names and shapes.

#include "ecoformer/models/recognise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors.h"
#include "ecoformer/io/state.h"
#include "ecoformer/models/classifier.h"
#include "ecoformer/models/pvt_v2.h"
#include "ecoformer/models/state_names.h"
#include "ecoformer/models/twins.h"
#include "models/shapes.h"

namespace ecoformer::models {
namespace {

using torch::Tensor;
using List = std::vector<std::int64_t>;

/// A published model in one of its forms; `tensors` counts buffers too.
struct Published {
  const char* name;
  const char* attention;
  std::int64_t parameters;
  std::int64_t tensors;
};
std::ostream& operator<<(std::ostream& out, const Published& model) {
  return out << model.name << "_" << model.attention;
}

/// The form of `name` with the authors' settings.
Architecture published(const std::string& name, const std::string& attention) {
  Architecture architecture = named_architecture(name);
  architecture.config["attention"] = attention;
  if (attention == "eco") {
    architecture.config["projection"] = "tied";
    architecture.config["semantics"] = "official";
    architecture.config["bandwidth"] = "per_input";
  }
  return architecture;
}

std::int64_t parameters_of(const Classifier& model) {
  std::int64_t total = 0;
  for (const Tensor& parameter : model.parameters()) total += parameter.numel();
  return total;
}

class Variant : public testing::TestWithParam<Published> {};

TEST_P(Variant, HasThePublishedSizeAndIsRecognised) {
  const Published& expected = GetParam();
  const Architecture architecture = published(expected.name, expected.attention);
  const auto model = make_classifier(architecture.type, architecture.config);
  EXPECT_EQ(parameters_of(*model), expected.parameters);
  // The authors store a projection matrix beside each hash function, which we do not have.
  const std::int64_t hashes =
      std::string(expected.attention) == "eco" ? std::ssize(model->attentions()) : 0;
  const auto state = io::state_of(*model);
  EXPECT_EQ(std::ssize(state), expected.tensors - hashes);
  std::int64_t elements = 0;
  for (const auto& [name, tensor] : state) elements += tensor.numel();
  EXPECT_EQ(state_elements(architecture.type, architecture.config), elements);

  const Recognised found = recognise(shapes_of(state));
  EXPECT_EQ(found.variant, expected.name);
  EXPECT_EQ(found.architecture.type, architecture.type);
  EXPECT_EQ(found.architecture.config, architecture.config);
}

INSTANTIATE_TEST_SUITE_P(All, Variant,
                         testing::Values(Published{"pvt_v2_b0", "original", 3666760, 178},
                                         Published{"pvt_v2_b1", "original", 14009000, 178},
                                         Published{"pvt_v2_b2", "original", 25362856, 334},
                                         Published{"pvt_v2_b3", "original", 45238696, 574},
                                         Published{"pvt_v2_b4", "original", 62556072, 834},
                                         Published{"pvt_v2_b5", "original", 81956008, 1054},
                                         Published{"pvt_v2_b2_li", "original", 22553512, 346},
                                         Published{"twins_svt_small", "original", 24060776, 290},
                                         Published{"twins_svt_base", "original", 56070952, 384},
                                         Published{"twins_svt_large", "original", 99271400, 384},
                                         Published{"pvt_v2_b0", "softmax", 3198280, 138},
                                         Published{"pvt_v2_b1", "softmax", 12138152, 138},
                                         Published{"pvt_v2_b2", "softmax", 21062376, 250},
                                         Published{"pvt_v2_b3", "softmax", 36011496, 418},
                                         Published{"pvt_v2_b4", "softmax", 48583720, 600},
                                         Published{"twins_svt_small", "softmax", 22221352, 244},
                                         Published{"pvt_v2_b0", "eco", 3136328, 174},
                                         Published{"pvt_v2_b1", "eco", 11891368, 174},
                                         Published{"pvt_v2_b2", "eco", 20367528, 328},
                                         Published{"pvt_v2_b3", "eco", 34084008, 568},
                                         Published{"pvt_v2_b4", "eco", 45665704, 828},
                                         Published{"twins_svt_small", "eco", 21522088, 272 + 56}),
                         [](const auto& test) { return testing::PrintToString(test.param); });

/// Parameters and tensors of a PCPVT, layer by layer.
std::pair<std::int64_t, std::int64_t> pcpvt_size(const List& depths) {
  const List widths{64, 128, 320, 512}, ratios{8, 8, 4, 4}, reductions{8, 4, 2, 1};
  std::int64_t parameters = 0;
  std::int64_t tensors = 0;
  for (std::size_t s = 0; s < 4; ++s) {
    const std::int64_t c = widths[s];
    const std::int64_t side = s == 0 ? 4 : 2;
    const std::int64_t inputs = s == 0 ? 3 : widths[s - 1];
    parameters += side * side * inputs * c + c + 2 * c;  // patch embedding and its norm
    parameters += 9 * c + c;                             // position
    tensors += 4 + 2;
    const std::int64_t r = ratios[s];
    const std::int64_t sr = reductions[s];
    std::int64_t block = 2 * 2 * c + 4 * (c * c + c);  // norms; q, k, v, proj
    block += 2 * r * c * c + r * c + c;
    if (sr > 1) block += sr * sr * c * c + c + 2 * c;
    parameters += depths[s] * block;
    tensors += depths[s] * (4 + 6 + 4 + (sr > 1 ? 4 : 0));
  }
  return {parameters + 2 * 512 + 512 * 1000 + 1000, tensors + 4};
}

TEST(Pcpvt, HasTheSizeOfItsLayersAndIsRecognised) {
  const struct {
    const char* name;
    List depths;
    double millions;  ///< as timm prints it
  } models[] = {{"twins_pcpvt_small", {3, 4, 6, 3}, 24.11},
                {"twins_pcpvt_base", {3, 4, 18, 3}, 43.83},
                {"twins_pcpvt_large", {3, 8, 27, 3}, 60.99}};
  for (const auto& [name, depths, millions] : models) {
    const Architecture architecture = named_architecture(name);
    const auto model = make_classifier(architecture.type, architecture.config);
    const auto [parameters, tensors] = pcpvt_size(depths);
    EXPECT_EQ(parameters_of(*model), parameters) << name;
    EXPECT_EQ(std::round(static_cast<double>(parameters) * 1e-4), std::round(millions * 100));
    const auto state = io::state_of(*model);
    EXPECT_EQ(std::ssize(state), tensors) << name;
    const Recognised found = recognise(shapes_of(state));
    EXPECT_EQ(found.variant, name);
    EXPECT_EQ(found.architecture.config, architecture.config);
  }
}

TEST(Recognise, ReadsOtherClassesKindsAndHashes) {
  Architecture architecture = named_architecture("pvt_v2_b0");
  architecture.config.update(
      {{"classes", 7}, {"channels", 1}, {"attention", "eco"}, {"bits", 8}, {"supports", 5}});
  const auto eco = make_classifier("pvt_v2", architecture.config);
  EXPECT_EQ(recognise(shapes_of(io::state_of(*eco))).architecture.config, architecture.config);
  architecture.config.update(
      {{"attention", "softmax"}, {"projection", "tied"}, {"bits", 16}, {"supports", 25}});
  const auto tied = make_classifier("pvt_v2", architecture.config);
  EXPECT_EQ(recognise(shapes_of(io::state_of(*tied))).architecture.config, architecture.config);
}

io::TensorFile fixture(const std::string& name) {
  return io::read_safetensors(std::string(ECO_FIXTURES) + "/model_" + name + ".safetensors");
}

TEST(Recognise, ReadsTheAuthorsMetadata) {
  const auto file = fixture("twins_svt_tiny_ecoformer");
  const Recognised found = recognise(shapes_of(file.tensors), file.metadata);
  EXPECT_EQ(found.architecture.type, "twins");
  const nlohmann::json& config = found.architecture.config;
  EXPECT_EQ(config.at("widths"), (List{16, 24, 40, 48}));
  EXPECT_EQ(config.at("heads"), (List{2, 3, 5, 6}));
  EXPECT_EQ(config.at("windows"), (List{4, 4, 4, 4}));
  EXPECT_EQ(config.at("attention"), "eco");
  EXPECT_EQ(config.at("semantics"), "official");
  EXPECT_EQ(config.at("bandwidth"), "per_input");
  EXPECT_EQ(config.at("projection"), "tied");
}

std::string refusal(const Shapes& shapes, const std::map<std::string, std::string>& metadata = {}) {
  try {
    recognise(shapes, metadata);
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST(Recognise, SaysWhatItCannotTell) {
  using testing::HasSubstr;
  const auto file = fixture("pvt_v2_tiny_sra");
  const Shapes shapes = shapes_of(file.tensors);
  EXPECT_THAT(refusal(shapes), HasSubstr("shapes do not tell the heads"));
  EXPECT_THAT(refusal({}), HasSubstr("got 0 tensors"));
  EXPECT_THAT(refusal({{"weight", {3}}}), HasSubstr("the first 'weight'"));
  EXPECT_THAT(refusal({{"patch_embed1.proj.weight", {0, 3}}}),
              HasSubstr("with 4 dims, got [0, 3]"));
  Shapes broken = shapes;
  broken.erase("head.weight");
  EXPECT_THAT(refusal(broken), HasSubstr("expected a tensor 'head.weight', got none"));
  broken = shapes;
  broken["block1.0.mlp.fc1.weight"] = {129, 16};
  EXPECT_THAT(refusal(broken), HasSubstr("a multiple of 16 rows, got 129"));

  const auto with = [&](const char* key, const char* value) {
    auto metadata = file.metadata;
    metadata[key] = value;
    return refusal(shapes, metadata);
  };
  EXPECT_THAT(with("family", "resnet"), HasSubstr("got 'resnet'"));
  EXPECT_THAT(with("attention", "hope"), HasSubstr("got 'hope'"));
  EXPECT_THAT(with("depths", "[1, 2"), HasSubstr("'depths' to be a number or list, got '[1, 2'"));
  EXPECT_THAT(with("depths", "[]"), HasSubstr("expected 4 entries in 'depths'"));
  EXPECT_THAT(with("depths", "{}"), HasSubstr("expected a list of integers for 'depths'"));
  EXPECT_THAT(with("embed_dims", "[1e99]"), HasSubstr("'widths'"));
  // What would take memory that the file does not account for.
  EXPECT_THAT(with("depths", "[1, 2, 1, 200]"), HasSubstr("elements, as the architecture has"));
  EXPECT_THAT(with("layer_norm_eps", "0.1"), HasSubstr("'layer_norm_eps' to be 1e-06"));
  auto metadata = file.metadata;
  metadata.erase("num_heads");
  EXPECT_THAT(refusal(shapes, metadata), HasSubstr("expected metadata 'num_heads', got none"));
}

TEST(StateNames, UnusedTensorsAreKnown) {
  EXPECT_TRUE(is_unused_state("block1.0.attn.fast_attention.projection_matrix"));
  EXPECT_TRUE(is_unused_state("fixture.input"));
  EXPECT_FALSE(is_unused_state("block1.0.attn.fast_attention.ksh.A"));
  EXPECT_FALSE(is_unused_state("projection_matrix"));
}

TEST(StateFor, DenseAttentionIsTheOriginalWithoutReduction) {
  PvtV2Config config;
  config.widths = {8, 16, 24, 32};
  config.heads = {1, 2, 3, 4};
  config.sr_ratios = {1, 1, 1, 1};
  config.classes = 5;
  PvtV2 original(config, 3);
  config.attention.mechanism = "softmax";
  PvtV2 dense(config, 4);
  io::load_state(*dense, state_for(*dense, io::state_of(*original)), "original");
  const torch::NoGradGuard no_grad;
  const Tensor images = torch::randn({2, 3, 40, 40});
  // The same sums in one product instead of two.
  EXPECT_TRUE(
      torch::allclose(dense->forward(images, {}), original->forward(images, {}), 1e-4, 1e-5));
}

TEST(StateFor, TiedAttentionKeepsQueriesAndValues) {
  TwinsConfig config;
  config.widths = {8, 16, 24, 32};
  config.depths = {2, 2, 2, 2};
  config.heads = {1, 2, 3, 4};
  config.classes = 5;
  const Twins original(config, 3);
  config.attention.mechanism = "eco";
  config.projection = nn::Projection::kTied;
  const Twins eco(config, 4);
  const auto from = io::state_of(*original);
  const auto state = state_for(*eco, from);
  EXPECT_TRUE(io::compare_state(*eco, state).fits());
  // Block 0 has windows and `qkv`, block 1 `q` and `kv`.
  EXPECT_TRUE(torch::equal(state.at("blocks.0.0.attn.to_qk.weight"),
                           from.at("blocks.0.0.attn.qkv.weight").narrow(0, 0, 8)));
  EXPECT_TRUE(torch::equal(state.at("blocks.0.0.attn.to_v.bias"),
                           from.at("blocks.0.0.attn.qkv.bias").narrow(0, 16, 8)));
  EXPECT_TRUE(
      torch::equal(state.at("blocks.1.1.attn.to_qk.bias"), from.at("blocks.1.1.attn.q.bias")));
  EXPECT_TRUE(torch::equal(state.at("blocks.1.1.attn.to_v.weight"),
                           from.at("blocks.1.1.attn.kv.weight").narrow(0, 16, 16)));
  EXPECT_TRUE(torch::equal(
      state.at("blocks.3.1.attn.qkv.weight"),
      torch::cat({from.at("blocks.3.1.attn.q.weight"), from.at("blocks.3.1.attn.kv.weight")})));
  auto incomplete = from;
  incomplete.erase("blocks.1.1.attn.kv.weight");
  EXPECT_THROW(state_for(*eco, incomplete), InputError);
}

}  // namespace
}  // namespace ecoformer::models
