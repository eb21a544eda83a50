// Vision models from data to a picture's explanation, at the command line.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "cli/program.h"
#include "ecoformer/data/image.h"
#include "ecoformer/data/image_transforms.h"
#include "ecoformer/train/checkpoint.h"

namespace ecoformer::cli_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using torch::Tensor;

namespace fs = std::filesystem;
using Flags = std::vector<std::string>;

/// Generates Pathfinder images of 32 pixels and returns their folder.
std::string make_pathfinder(const Folder& folder) {
  const Outcome made = run({"data", "--task", "pathfinder", "--output", folder / "data", "--size",
                            "32", "--level", "easy", "--count", "40"});
  EXPECT_EQ(made.code, 0) << made.err;
  return folder / "data/pathfinder32/curv_baseline";
}

Flags few_steps(const std::string& data, const std::string& output, int steps = 2) {
  return {"train",
          "--data",
          data,
          "--output",
          output,
          "--steps",
          std::to_string(steps),
          "--warmup-steps",
          "1",
          "--batch-size",
          "4",
          "--log-every",
          "1",
          "--threads",
          "1",
          "--workers",
          "1",
          "--learning-examples",
          "8",
          "--label-smoothing",
          "0.1"};
}

void write_noise(const std::string& path, int height, int width) {
  data::Image picture{.height = height, .width = width};
  for (int i = 0; i < height * width * 3; ++i) {
    picture.pixels.push_back(static_cast<std::uint8_t>(i * 7 % 256));
  }
  fs::create_directories(fs::path(path).parent_path());
  data::write_png(path, picture);
}

/// softmax(q k^T / sqrt(D)) of the queries and keys of a layer that sees `picture`, [H, N, N].
Tensor softmax_weights(const std::string& checkpoint, const std::string& picture,
                       std::size_t layer) {
  const torch::NoGradGuard no_gradients;
  const auto model = train::load_model(checkpoint).model;
  model->eval();
  Tensor weights;
  model->attentions()[layer]->observe(
      [&](const Tensor& q, const Tensor& k, const Tensor&, const nn::Masks&) {
        const double scale = std::sqrt(static_cast<double>(q.size(-1)));
        weights = q.matmul(k.transpose(-1, -2)).div(scale).softmax(-1).squeeze(0);
      });
  const data::Image pixels = data::read_image(picture);
  Tensor input = torch::empty({1, 3, pixels.height, pixels.width});
  data::normalize(pixels,
                  {input.mutable_data_ptr<float>(), static_cast<std::size_t>(input.numel())});
  model->forward(input, {});
  return weights;
}

TEST(VisionTraining, GoesFromDataToAnExplanation) {
  const Folder folder;
  const std::string images = make_pathfinder(folder), data = "pathfinder:" + images;
  const Outcome dense =
      run(few_steps(data, folder / "dense") + Flags{"--model", "pvt_v2_b0", "--drop-path", "0.1"});
  ASSERT_EQ(dense.code, 0) << dense.err;

  const std::string start = folder / "start.safetensors";
  const Outcome converted =
      run({"convert", "--checkpoint", folder / "dense/last.safetensors", "--data", data, "--output",
           start, "--examples", "8", "--iterations", "2", "--format", "json"});
  ASSERT_EQ(converted.code, 0) << converted.err;
  EXPECT_EQ(converted.json().size(), 2U * (1 + 2 + 5));  // Two blocks a stage; heads.

  const Outcome tuned = run(few_steps(data, folder / "eco") +
                            Flags{"--from", start, "--ema-decay", "0.9", "--drop-path", "0.2"});
  ASSERT_EQ(tuned.code, 0) << tuned.err;

  const std::string eco = folder / "eco/last.safetensors";
  const Outcome evaluated =
      run({"evaluate", "--checkpoint", folder / "dense/last.safetensors", "--checkpoint", eco,
           "--data", data, "--threads", "1", "--format", "json"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  const auto rows = evaluated.json();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]["attention"], "original");
  EXPECT_EQ(rows[1]["attention"], "eco-exponential");
  EXPECT_EQ(rows[0]["examples"], 4);
  EXPECT_EQ(rows[0]["tokens"], 64);

  const std::string picture = images + "/imgs/0/sample_0.png";
  const Outcome predicted = run({"predict", "--checkpoint", eco, picture, "--format", "json"});
  ASSERT_EQ(predicted.code, 0) << predicted.err;
  EXPECT_THAT(predicted.json()[0]["class"].get<std::string>(), HasSubstr("connected"));

  const Outcome explained =
      run({"explain", picture, "--checkpoint", eco, "--layer", "2", "--token", "3,4", "--token",
           "30,31", "--output", folder / "why.png", "--format", "json"});
  ASSERT_EQ(explained.code, 0) << explained.err;
  const auto panels = explained.json();
  ASSERT_EQ(panels.size(), 2U * 2 * 2);  // Tokens, heads, and softmax beside EcoFormer.
  for (const auto& panel : panels) {
    EXPECT_GE(panel["entropy"], 0);
    EXPECT_LE(panel["entropy"], panel["largest_entropy"].get<double>() + 1e-3);
    EXPECT_GE(panel["largest_weight"], 0.9999 / 16);  // 16 weights add up to 1, but for rounding.
    EXPECT_LE(panel["largest_weight"], 1.0001);
  }
  const Tensor expected = softmax_weights(eco, picture, /*layer=*/2);  // [H, 16, 16]
  for (const auto& panel : panels) {
    if (panel["attention"] != "softmax") continue;
    const std::int64_t query = panel["token"] == "3,4" ? 0 : 15;  // The first, the last of 4 x 4.
    const Tensor row = expected[panel["head"].get<std::int64_t>()][query];
    // Both sum D = 32 products in float32, in their own order: a logit of at most 10 moves by less
    // than 10 D 2^-24 = 2e-5, a weight p by twice that times p, and the entropy by that times the
    // sum of p |log p + 1|, at most log 16 + 1 < 4.
    EXPECT_NEAR(panel["largest_weight"], row.max().item<double>(), 4e-5);
    EXPECT_NEAR(panel["entropy"], -(row * row.log()).sum().item<double>(), 4 * 4e-5);
  }
  const data::Image drawn = data::read_image(folder / "why.png");
  EXPECT_EQ(drawn.height, 4 * 36 - 4);
  EXPECT_EQ(drawn.width, 3 * 36 - 4);
  // The patch of the first token: stage 2 has 4 x 4 tokens of 8 pixels.
  EXPECT_EQ(drawn.pixels[0], 255);
  EXPECT_EQ(drawn.pixels[1], 0);

  const Outcome inspected = run({"inspect", eco, "--format", "csv"});
  EXPECT_THAT(inspected.out, AllOf(HasSubstr("model.type,,,pvt_v2"), HasSubstr("ema.head.weight"),
                                   HasSubstr("task.image_size,,,32")));
}

TEST(VisionTraining, FitsOtherClassesAndLeavesOutBrokenPictures) {
  const Folder folder;
  for (const char* split : {"train", "val"}) {
    for (const char* name : {"a", "b", "c"}) {
      for (int i = 0; i < 3; ++i) {
        write_noise(folder / fmt::format("images/{}/{}/{}.png", split, name, i), 40 + i, 50);
      }
    }
  }
  const std::string data = "imagenet:" + (folder / "images");
  write_file(folder / "images/train/b/1.png", "not a picture");
  const std::string pretrained =
      std::string(ECO_FIXTURES) + "/model_twins_svt_tiny_svt.safetensors";
  const Flags from{"--from", pretrained, "--image-size", "64", "--augment"};

  const Outcome refused = run(few_steps(data, folder / "run") + from);
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("10 classes"), HasSubstr("--reset-head")));
  EXPECT_FALSE(fs::exists(folder / "run"));

  const Outcome strict =
      run(few_steps(data, folder / "strict", 4) + from + Flags{"--reset-head", "--strict"});
  EXPECT_EQ(strict.code, 2);
  EXPECT_THAT(strict.err, HasSubstr("1.png"));

  const Outcome trained = run(few_steps(data, folder / "run", 4) + from + Flags{"--reset-head"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.err, AllOf(HasSubstr("warning: left out"), HasSubstr("1.png")));

  const Outcome evaluated = run({"evaluate", "--checkpoint", folder / "run/last.safetensors",
                                 "--data", data, "--split", "train", "--format", "json"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  EXPECT_EQ(evaluated.json()[0]["examples"], 8);
  EXPECT_EQ(evaluated.json()[0]["skipped"], 1);
}

TEST(VisionTraining, RefusesWhatDoesNotFitTheModel) {
  const Folder folder;
  const std::string data = "pathfinder:" + make_pathfinder(folder);
  const auto complaint = [&](const std::string& source, const Flags& flags) {
    const Outcome outcome = run(few_steps(source, folder / "run") + flags);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_FALSE(fs::exists(folder / "run"));
    return outcome.err;
  };
  const Flags vision{"--model", "pvt_v2_b0"};
  EXPECT_THAT(complaint("listops:x", vision), AllOf(HasSubstr("cifar10"), HasSubstr("listops:x")));
  EXPECT_THAT(complaint("cifar10:x", {}), HasSubstr("listops:FOLDER"));
  EXPECT_THAT(complaint(data, vision + Flags{"--width", "32"}), HasSubstr("--width"));
  EXPECT_THAT(complaint(data, {"--augment"}), HasSubstr("--augment"));
  EXPECT_THAT(complaint(data, vision + Flags{"--reset-head"}), HasSubstr("--from"));
  EXPECT_THAT(complaint(data, vision + Flags{"--repeats", "0"}), HasSubstr("repeats"));
  write_file(folder / "cifar/train.bin", "too short");
  write_file(folder / "cifar/test.bin", "too short");
  EXPECT_THAT(complaint("cifar100:" + (folder / "cifar"), vision), HasSubstr("train.bin"));
}

}  // namespace
}  // namespace ecoformer::cli_test
