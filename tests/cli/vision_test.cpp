// Vision models at the command line, from the authors' own files.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "cli/program.h"
#include "ecoformer/data/image.h"
#include "ecoformer/io/safetensors.h"

namespace ecoformer::cli_test {
namespace {

using testing::HasSubstr;

std::string fixture(const std::string& name) {
  return std::string(ECO_FIXTURES) + "/" + name;
}

TEST(PredictVision, StoredImagesGiveTheAuthorsLogits) {
  const Folder folder;
  const io::TensorFile authors =
      io::read_safetensors(fixture("model_pvt_v2_tiny_ecoformer.safetensors"));
  io::write_safetensors(
      folder / "x.safetensors",
      {.tensors = {{"input", authors.tensors.at("fixture.input")}}, .metadata = {}});
  const torch::Tensor expected = authors.tensors.at("fixture.logits");
  // Bits within rounding of zero may flip.
  const double most = 1e-2 * expected.abs().max().item<double>();
  const auto error_of = [&](const std::string& file, const std::vector<std::string>& flags) {
    const std::string output = folder / "y.safetensors";
    const Outcome outcome =
        run(std::vector<std::string>{"predict", "--checkpoint", fixture(file), "--input",
                                     folder / "x.safetensors", "--output", output} +
            flags);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const torch::Tensor logits = io::read_safetensors(output).tensors.at("logits");
    return (logits - expected).abs().max().item<double>();
  };
  EXPECT_LE(error_of("model_pvt_v2_tiny_ecoformer.safetensors", {}), most);
  // bfloat16 rounds to 8 bits, and more codes flip.
  const double rounded =
      error_of("model_pvt_v2_tiny_ecoformer.safetensors", {"--dtype", "bfloat16"});
  EXPECT_GT(rounded, 1e-6);
  EXPECT_LE(rounded, 10 * most);
  // The other file has no metadata, and no published model its shapes.
  write_file(folder / "tiny.json", nlohmann::json(authors.metadata).dump());
  EXPECT_LE(error_of("model_pvt_v2_tiny_ecoformer.pth", {"--architecture", folder / "tiny.json"}),
            most);
}

TEST(PredictVision, PicturesGetTheirLikeliestClasses) {
  const Folder folder;
  data::Image picture{.height = 70, .width = 90, .channels = 3, .pixels = {}};
  for (int i = 0; i < 70 * 90 * 3; ++i) {
    picture.pixels.push_back(static_cast<std::uint8_t>(i * 7 % 256));
  }
  data::write_png(folder / "photo.png", picture);
  const std::vector<std::string> flags{"predict",
                                       "--checkpoint",
                                       fixture("model_twins_svt_tiny_svt.safetensors"),
                                       "--image-size",
                                       "64",
                                       "--top",
                                       "3",
                                       "--format",
                                       "json"};
  const Outcome outcome = run(flags + std::vector<std::string>{folder / "photo.png"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto rows = outcome.json();
  ASSERT_EQ(rows.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(rows[i]["rank"], i + 1);
    EXPECT_LT(std::stoi(rows[i]["class"].get<std::string>()), 10);
    if (i > 0) {
      EXPECT_LE(rows[i]["probability"], rows[i - 1]["probability"]);
    }
  }

  write_file(folder / "text.png", "not a picture");
  const Outcome refused = run(flags + std::vector<std::string>{folder / "text.png"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("text.png"));
}

TEST(PredictVision, WhatIsNoModelIsRefused) {
  const Folder folder;
  write_file(folder / "list.json", "[1]");
  const Outcome bad_architecture =
      run({"predict", "--checkpoint", fixture("model_twins_svt_tiny_svt.safetensors"),
           "--architecture", folder / "list.json", folder / "photo.png"});
  EXPECT_EQ(bad_architecture.code, 2);
  EXPECT_THAT(bad_architecture.err, HasSubstr("list.json"));
  io::write_safetensors(folder / "x.safetensors",
                        {.tensors = {{"input", torch::zeros({1, 3, 64, 64})}}, .metadata = {}});
  const Outcome outcome = run({"predict", "--checkpoint", folder / "x.safetensors", "--input",
                               folder / "x.safetensors", "--output", folder / "y.safetensors"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("x.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder / "y.safetensors"));
}

TEST(InspectVision, NamesTheModelOfAFile) {
  const Outcome outcome =
      run({"inspect", fixture("model_pvt_v2_tiny_ecoformer.safetensors"), "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::map<std::string, std::string> model;
  for (const auto& row : outcome.json()) {
    if (row["kind"] == "model") model[row["name"]] = row["value"];
  }
  EXPECT_EQ(model["type"], "pvt_v2");
  EXPECT_EQ(model["attention"], "eco");
  EXPECT_EQ(model["semantics"], "official");
}

TEST(BenchModel, MeasuresEveryKindOfAttention) {
  const Outcome outcome =
      run({"bench", "model", "--model", "pvt_v2_b0", "--image-size", "64", "--batch", "1,2",
           "--seconds", "0", "--threads", "1", "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto rows = outcome.json();
  ASSERT_EQ(rows.size(), 6U);
  for (const auto& row : rows) {
    EXPECT_GT(row["latency_ms"], 0);
    EXPECT_GT(row["extra_memory_mb"], 0);
  }
  EXPECT_EQ(rows[2]["attention"], "eco");
  EXPECT_EQ(rows[5]["batch"], 2);
}

}  // namespace
}  // namespace ecoformer::cli_test
