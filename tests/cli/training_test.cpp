// The whole way on tiny data, and what interrupting and resuming promise.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "cli/program.h"
#include "ecoformer/io/safetensors.h"

namespace ecoformer::cli_test {
namespace {

using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

Arguments train(const std::string& data, const std::string& output, int steps) {
  return Arguments{"train", "--data", data, "--output", output, "--format", "json"} +
         tiny_training(steps);
}

void expect_equal_tensors(const std::string& a, const std::string& b) {
  const io::TensorFile first = io::read_safetensors(a);
  const io::TensorFile second = io::read_safetensors(b);
  ASSERT_EQ(first.tensors.size(), second.tensors.size());
  for (const auto& [name, tensor] : first.tensors) {
    ASSERT_EQ(second.tensors.count(name), 1U) << name;
    EXPECT_TRUE(torch::equal(tensor, second.tensors.at(name))) << name;
  }
}

TEST(Training, DenseToEcoFormerToPrediction) {
  const Folder folder;
  const std::string data = make_listops(folder);
  const Outcome dense = run(train(data, folder / "dense", 20));
  ASSERT_EQ(dense.code, 0) << dense.err;
  EXPECT_EQ(dense.json()[0]["status"], "finished");
  EXPECT_EQ(dense.json()[0]["step"], 20);
  EXPECT_THAT(dense.err, HasSubstr("train 20/20"));

  const Outcome converted =
      run({"convert", "--checkpoint", folder / "dense/last.safetensors", "--data", data, "--output",
           folder / "eco.safetensors", "--supports", "8", "--neighbours", "2", "--format", "json"});
  ASSERT_EQ(converted.code, 0) << converted.err;
  EXPECT_EQ(converted.json().size(), 2U);  // one layer, two heads

  const Outcome tuned =
      run(Arguments{"train", "--from", folder / "eco.safetensors", "--data", data, "--output",
                    folder / "tuned", "--steps", "6", "--warmup-steps", "2", "--batch-size", "8",
                    "--hash-neighbours", "2", "--format", "json"});
  ASSERT_EQ(tuned.code, 0) << tuned.err;

  const std::string best = folder / "tuned/last.safetensors";
  const Outcome evaluated = run({"evaluate", "--checkpoint", folder / "dense/last.safetensors",
                                 best, "--data", data, "--format", "json"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  const nlohmann::json rows = evaluated.json();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]["attention"], "softmax");
  EXPECT_EQ(rows[1]["attention"], "eco-exponential");
  for (const nlohmann::json& row : rows) {
    EXPECT_EQ(row["examples"], 24);
    const double correct = row["accuracy"].get<double>() * 24;
    EXPECT_NEAR(correct, std::round(correct), 1e-9);
    EXPECT_GT(row["latency_ms"].get<double>(), 0);
  }

  const std::string text = "( ( ( [MAX 2 ) 9 ) ] )";
  const Outcome predicted =
      run({"predict", "--checkpoint", best, text, "--top", "3", "--format", "json"});
  ASSERT_EQ(predicted.code, 0) << predicted.err;
  ASSERT_EQ(predicted.json().size(), 3U);
  EXPECT_EQ(predicted.json()[0]["input"], text);
  EXPECT_GE(predicted.json()[0]["probability"], predicted.json()[1]["probability"]);

  write_file(folder / "expression.txt", text + "\n");
  const Outcome from_file = run({"predict", "--checkpoint", best, "--file",
                                 folder / "expression.txt", "--top", "3", "--format", "json"});
  const Outcome from_stdin =
      run({"predict", "--checkpoint", best, "--top", "3", "--format", "json"}, text + "\n");
  ASSERT_EQ(from_file.code, 0) << from_file.err;
  ASSERT_EQ(from_stdin.code, 0) << from_stdin.err;
  EXPECT_EQ(from_file.json()[0]["probability"], predicted.json()[0]["probability"]);
  EXPECT_EQ(from_stdin.json()[0]["probability"], predicted.json()[0]["probability"]);

  // Stored tokens of the same expression, once alone and once padded: the same logits.
  io::TensorFile input{.tensors = {}, .metadata = {}};
  input.tensors["input"] =
      torch::tensor({{12, 3, 10, 15, 0, 0}, {12, 3, 10, 15, 1, 15}}, torch::kLong);
  input.tensors["mask"] = torch::tensor({{1, 1, 1, 1, 0, 0}, {1, 1, 1, 1, 0, 0}}).to(torch::kBool);
  io::write_safetensors(folder / "x.safetensors", input);
  const Outcome logits = run({"predict", "--checkpoint", best, "--input", folder / "x.safetensors",
                              "--output", folder / "y.safetensors"});
  ASSERT_EQ(logits.code, 0) << logits.err;
  const torch::Tensor found = io::read_safetensors(folder / "y.safetensors").tensors.at("logits");
  ASSERT_EQ(found.sizes(), (std::vector<std::int64_t>{2, 10}));
  const double top = torch::softmax(found[0], 0).max().item<double>();
  // Padding is exact for the attention; the classifier's products may be batched differently.
  EXPECT_NEAR(top, predicted.json()[0]["probability"].get<double>(), 1e-6);
  EXPECT_TRUE(torch::allclose(found[0], found[1], 0, 1e-6));

  const Outcome inspected = run({"inspect", best});
  EXPECT_EQ(inspected.code, 0) << inspected.err;
  EXPECT_THAT(inspected.out, HasSubstr("hash.0"));
  EXPECT_THAT(inspected.out, HasSubstr("6 of 6"));

  // What this model must refuse.
  const auto refused = [&](const Arguments& arguments, const std::string& fragment) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(fragment));
  };
  refused({"predict", "--checkpoint", best, "twelve"}, "twelve");
  refused({"predict", "--checkpoint", best, "--file", folder / "none"}, "none");
  input.tensors["mask"] = torch::zeros({2, 6}, torch::kBool);
  io::write_safetensors(folder / "padding.safetensors", input);
  refused({"predict", "--checkpoint", best, "--input", folder / "padding.safetensors", "--output",
           folder / "z.safetensors"},
          "padding");
  input.tensors["input"] = torch::full({2, 6}, std::nan(""));
  io::write_safetensors(folder / "nan.safetensors", input);
  refused({"predict", "--checkpoint", best, "--input", folder / "nan.safetensors", "--output",
           folder / "z.safetensors"},
          "[0, 0]");
  refused({"convert", "--checkpoint", folder / "dense/last.safetensors", "--data", data, "--output",
           folder / "z.safetensors", "--supports", "60000"},
          "60000");
  refused({"convert", "--checkpoint", best, "--data", data, "--output", folder / "z.safetensors"},
          "softmax");
  refused(Arguments{"train", "--from", folder / "eco.safetensors", "--data", data, "--output",
                    folder / "z", "--width", "32"},
          "--width");
  refused(train(data, folder / "dense", 20), "overwrite it");
  EXPECT_FALSE(std::filesystem::exists(folder / "z.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder / "z"));
}

// EcoFormer from the start, so that hash functions are learned, saved and resumed too.
TEST(Training, InterruptedAndResumedEqualsUninterrupted) {
  const Folder folder;
  const std::string data = make_listops(folder);
  constexpr int kSteps = 150;
  const Arguments eco{"--attention",  "eco", "--supports",         "8",
                      "--eval-every", "50",  "--checkpoint-every", "50"};
  const Outcome whole = run(train(data, folder / "whole", kSteps) + eco);
  ASSERT_EQ(whole.code, 0) << whole.err;

  Program interrupted(train(data, folder / "parts", kSteps) + eco);
  ASSERT_TRUE(interrupted.wait_for_stderr("train 3/"));
  interrupted.interrupt();
  const Outcome stopped = interrupted.wait();
  ASSERT_EQ(stopped.code, 0) << stopped.err;
  ASSERT_EQ(stopped.json()[0]["status"], "stopped");
  EXPECT_LT(stopped.json()[0]["step"].get<int>(), kSteps);

  const Outcome other = run({"train", "--resume", "--output", folder / "parts", "--supports", "9"});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("supports"));
  // The program's own flags are not the run's: with other threads LibTorch sums in another order.
  const Outcome resumed = run(
      {"train", "--resume", "--output", folder / "parts", "--format", "json", "--threads", "1"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(resumed.json()[0]["step"], kSteps);
  expect_equal_tensors(folder / "whole/last.safetensors", folder / "parts/last.safetensors");
  expect_equal_tensors(folder / "whole/best.safetensors", folder / "parts/best.safetensors");
}

TEST(Training, TheSameSeedGivesTheSameBitsForAnyNumberOfWorkers) {
  const Folder folder;
  const std::string data = make_listops(folder);
  ASSERT_EQ(run(train(data, folder / "one", 10)).code, 0);
  ASSERT_EQ(run(train(data, folder / "three", 10) + Arguments{"--workers", "3"}).code, 0);
  expect_equal_tensors(folder / "one/last.safetensors", folder / "three/last.safetensors");
}

TEST(Training, TextFoldersWork) {
  const Folder folder;
  for (int i = 0; i < 20; ++i) {
    write_file(folder / ("texts/good/" + std::to_string(i)),
               "what a fine day, number " + std::to_string(i));
    write_file(folder / ("texts/bad/" + std::to_string(i)),
               "rain, rain and rain again " + std::to_string(i));
  }
  const Outcome trained = run(train("text:" + (folder / "texts"), folder / "run", 10) +
                              Arguments{"--max-length", "64"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  const Outcome predicted = run({"predict", "--checkpoint", folder / "run/last.safetensors",
                                 "a fine day", "--top", "9", "--format", "json"});
  ASSERT_EQ(predicted.code, 0) << predicted.err;
  ASSERT_EQ(predicted.json().size(), 2U);
}

}  // namespace
}  // namespace ecoformer::cli_test
