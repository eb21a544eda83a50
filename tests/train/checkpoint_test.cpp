// Checkpoints: everything comes back, and files that do not fit are refused by name and reason.
#include "ecoformer/train/checkpoint.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors.h"
#include "ecoformer/io/state.h"
#include "gmock/gmock.h"
#include "train/toy.h"

namespace ecoformer::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Checkpoint toy_checkpoint() {
  Checkpoint checkpoint{.model = toy_model("eco", 3), .task = toy_task()};
  TrainingState& training = checkpoint.training.emplace();
  training.config = toy_train_config();
  training.progress.step = 5;
  training.progress.epoch = 1;
  training.progress.batch = 2;
  training.progress.best_accuracy = 1.0 / 3;
  training.progress.data = "some";
  training.optimizer["w.exp_avg"] = torch::ones({2});
  training.generator = torch::ones({4}, torch::kUInt8);
  return checkpoint;
}

std::string complaint(const std::filesystem::path& path) {
  try {
    load_checkpoint(path);
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr(path.string()));
    return error.what();
  }
  return "";
}

/// Writes the toy checkpoint, changed on the level of the file, and returns the complaint.
template <typename Change>
std::string complaint_after(const Change& change) {
  const auto path = fresh_folder() / "changed.safetensors";
  save_checkpoint(path, toy_checkpoint());
  io::TensorFile file = io::read_safetensors(path);
  change(file);
  io::write_safetensors(path, file);
  return complaint(path);
}

TEST(Checkpoint, ComesBackWhole) {
  const auto path = fresh_folder() / "whole.safetensors";
  const Checkpoint saved = toy_checkpoint();
  save_checkpoint(path, saved);
  const Checkpoint loaded = load_checkpoint(path);
  const auto state = io::state_of(*loaded.model);
  for (const auto& [name, tensor] : io::state_of(*saved.model)) {
    EXPECT_TRUE(tensor.equal(state.at(name))) << name;
  }
  EXPECT_EQ(loaded.model->type(), saved.model->type());
  EXPECT_EQ(loaded.model->config_json(), saved.model->config_json());
  EXPECT_EQ(loaded.task, saved.task);
  ASSERT_TRUE(loaded.training);
  EXPECT_EQ(to_json(loaded.training->config), to_json(saved.training->config));
  EXPECT_EQ(loaded.training->progress.step, 5);
  EXPECT_EQ(loaded.training->progress.epoch, 1);
  EXPECT_EQ(loaded.training->progress.batch, 2);
  EXPECT_EQ(loaded.training->progress.best_accuracy, 1.0 / 3);
  EXPECT_EQ(loaded.training->progress.data, "some");
  EXPECT_TRUE(loaded.training->optimizer.at("w.exp_avg").equal(torch::ones({2})));
  EXPECT_TRUE(loaded.training->generator.equal(torch::ones({4}, torch::kUInt8)));
}

TEST(Checkpoint, KeepsTheModelsOwnNames) {
  const auto path = fresh_folder() / "names.safetensors";
  save_checkpoint(path, toy_checkpoint());
  const io::TensorFile file = io::read_safetensors(path);
  EXPECT_TRUE(file.tensors.contains("blocks.0.attn.fast_attention.ksh.A"));
  EXPECT_TRUE(file.tensors.contains("optimizer.w.exp_avg"));
  EXPECT_TRUE(file.tensors.contains("generator.state"));
}

TEST(Checkpoint, LoadModelDoesNotLookAtTheTrainingState) {
  const auto path = fresh_folder() / "weights.safetensors";
  save_checkpoint(path, toy_checkpoint());
  io::TensorFile file = io::read_safetensors(path);
  file.metadata["progress"] = "broken";
  io::write_safetensors(path, file);
  EXPECT_FALSE(load_model(path).training);
  EXPECT_THAT(complaint(path), HasSubstr("'progress'"));
}

TEST(Checkpoint, RefusesWhatIsNotOne) {
  const auto path = fresh_folder() / "plain.safetensors";
  EXPECT_NE(complaint(path), "");
  std::ofstream(path) << "not safetensors";
  EXPECT_NE(complaint(path), "");
  io::write_safetensors(path, {.tensors = {{"x", torch::ones(1)}}, .metadata = {}});
  EXPECT_THAT(complaint(path), HasSubstr("expected a checkpoint"));
}

TEST(Checkpoint, RefusesAnotherArchitecture) {
  EXPECT_THAT(complaint_after([](io::TensorFile& file) {
                file.metadata["model"] = R"({"type": "pvt_v9", "config": {}})";
              }),
              HasSubstr("'pvt_v9'"));
  EXPECT_THAT(complaint_after([](io::TensorFile& file) {
                file.metadata["model"] =
                    R"({"type": "pvt_v2", "config": {"classes": 3, "widths": [1, 1, 1, 1],)"
                    R"( "heads": [1, 1, 1, 1], "mlp_ratios": [1, 1, 1, 1]}})";
              }),
              HasSubstr("block1.0.attn.q.weight"));
  EXPECT_THAT(complaint_after([](io::TensorFile& file) {
                auto model = nlohmann::json::parse(file.metadata["model"]);
                model["config"]["depth"] = 2;
                file.metadata["model"] = model.dump();
              }),
              HasSubstr("depth"));
  EXPECT_THAT(complaint_after([](io::TensorFile& file) {
                auto model = nlohmann::json::parse(file.metadata["model"]);
                model["config"]["mlp_width"] = 24;
                file.metadata["model"] = model.dump();
              }),
              HasSubstr("mlp.fc1.weight"));
}

TEST(Checkpoint, TakesNoMemoryForAModelThatTheFileDoesNotHold) {
  EXPECT_THAT(complaint_after([](io::TensorFile& file) {
                auto model = nlohmann::json::parse(file.metadata["model"]);
                model["config"]["layers"] = 1000;
                model["config"]["mlp_width"] = 1 << 20;
                file.metadata["model"] = model.dump();
              }),
              HasSubstr("elements, as the architecture has"));
  EXPECT_THAT(complaint_after([](io::TensorFile& file) {
                file.metadata["model"] =
                    R"({"type": "twins", "config": {"depths": [256, 256, 256, 256]}})";
              }),
              HasSubstr("elements, as the architecture has"));
}

TEST(Checkpoint, NamesMissingAndUnexpectedTensors) {
  EXPECT_THAT(
      complaint_after([](io::TensorFile& file) {
        file.tensors.erase("blocks.1.attn.proj.weight");
        file.tensors["blocks.9.attn.proj.weight"] = torch::ones(1);
      }),
      AllOf(HasSubstr("blocks.1.attn.proj.weight"), HasSubstr("blocks.9.attn.proj.weight")));
  EXPECT_THAT(complaint_after([](io::TensorFile& file) { file.tensors.erase("generator.state"); }),
              HasSubstr("generator.state"));
}

TEST(Checkpoint, RefusesBrokenMetadata) {
  EXPECT_THAT(complaint_after([](io::TensorFile& file) { file.metadata.erase("task"); }),
              HasSubstr("'task'"));
  EXPECT_THAT(complaint_after([](io::TensorFile& file) { file.metadata["train"] = "{"; }),
              HasSubstr("'train'"));
  EXPECT_THAT(complaint_after([](io::TensorFile& file) {
                file.metadata["task"] =
                    R"({"class_names": ["a"], "tokeniser": "bytes", "max_length": 32})";
              }),
              HasSubstr("3 classes"));
}

}  // namespace
}  // namespace ecoformer::train
