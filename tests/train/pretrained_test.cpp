// Files that the authors' code wrote become models that compute what theirs computed.
#include "ecoformer/train/pretrained.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "ecoformer/base/error.h"
#include "ecoformer/io/key_map.h"
#include "ecoformer/io/safetensors.h"

namespace ecoformer::train {
namespace {

const std::filesystem::path kFixtures = ECO_FIXTURES;

torch::Tensor logits_of(const Pretrained& pretrained, const torch::Tensor& images) {
  const torch::NoGradGuard no_gradients;
  pretrained.model->eval();
  return pretrained.model->forward(images, {});
}

TEST(Pretrained, FixturesGiveTheAuthorsLogits) {
  for (const char* name :
       {"pvt_v2_tiny_ecoformer", "pvt_v2_tiny_msa", "pvt_v2_tiny_sra", "twins_svt_tiny_ecoformer",
        "twins_svt_tiny_msa", "twins_svt_tiny_svt"}) {
    SCOPED_TRACE(name);
    const auto path = kFixtures / fmt::format("model_{}.safetensors", name);
    const io::TensorFile file = io::read_safetensors(path);
    const torch::Tensor expected = file.tensors.at("fixture.logits");
    const torch::Tensor found = logits_of(load_pretrained(path), file.tensors.at("fixture.input"));
    // A hash bit within rounding of zero may flip, which moves EcoFormer's logits a little.
    const bool eco = std::string(name).find("ecoformer") != std::string::npos;
    const double most = expected.abs().max().item<double>() * (eco ? 1e-2 : 1e-4);
    EXPECT_LE((found - expected).abs().max().item<double>(), most);
  }
}

TEST(Pretrained, TorchSaveAndSafetensorsGiveTheSameModel) {
  const auto twin = kFixtures / "model_pvt_v2_tiny_ecoformer.safetensors";
  const io::TensorFile file = io::read_safetensors(twin);
  const torch::Tensor images = file.tensors.at("fixture.input");
  // No published model has these shapes, and the .pth file says nothing of its architecture.
  const auto pth = kFixtures / "model_pvt_v2_tiny_ecoformer.pth";
  EXPECT_THROW(load_pretrained(pth), InputError);
  const Pretrained from_pth = load_pretrained(pth, file.metadata);
  EXPECT_TRUE(torch::equal(logits_of(from_pth, images), logits_of(load_pretrained(twin), images)));
}

TEST(Pretrained, TimmsNamesAndPrefixesAreTranslated) {
  const auto path = kFixtures / "model_pvt_v2_tiny_sra.safetensors";
  io::TensorFile file = io::read_safetensors(path);
  const torch::Tensor images = file.tensors.at("fixture.input");
  std::erase_if(file.tensors,
                [](const auto& entry) { return entry.first.starts_with("fixture."); });
  file.tensors = io::rename_keys(
      file.tensors, [](const std::string& name) { return "module." + io::timm_pvt_name(name); });
  const std::filesystem::path renamed =
      std::filesystem::path(testing::TempDir()) / "timm_names.safetensors";
  io::write_safetensors(renamed, file);
  EXPECT_TRUE(torch::equal(logits_of(load_pretrained(renamed), images),
                           logits_of(load_pretrained(path), images)));
  std::filesystem::remove(renamed);
}

TEST(Pretrained, WhatDoesNotFitIsNamedWithItsFile) {
  const auto refusal = [](const io::TensorFile& file) -> std::string {
    const std::filesystem::path path =
        std::filesystem::path(testing::TempDir()) / "no_model.safetensors";
    io::write_safetensors(path, file);
    try {
      load_pretrained(path);
    } catch (const InputError& error) {
      std::filesystem::remove(path);
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(refusal({.tensors = {{"weight", torch::ones({2})}}, .metadata = {}}),
              testing::HasSubstr("no_model.safetensors"));
  io::TensorFile file = io::read_safetensors(kFixtures / "model_pvt_v2_tiny_sra.safetensors");
  file.tensors.erase("norm4.bias");
  EXPECT_THAT(refusal(file), testing::AllOf(testing::HasSubstr("no_model.safetensors"),
                                            testing::HasSubstr("norm4.bias")));
}

}  // namespace
}  // namespace ecoformer::train
