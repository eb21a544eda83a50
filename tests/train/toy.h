// A task and a model small enough to train in a second.
#pragma once

#include <torch/torch.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "ecoformer/data/dataset.h"
#include "ecoformer/models/sequence_encoder.h"
#include "ecoformer/train/checkpoint.h"
#include "ecoformer/train/examples.h"
#include "ecoformer/train/train_config.h"
#include "gtest/gtest.h"

namespace ecoformer::train {

/// Three classes; about half of a sequence's 20 to 31 tokens are the one that names its class.
inline data::SequenceDataset toy_data(std::int64_t examples, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  data::SequenceDataset dataset{
      .name = "toy", .examples = {}, .class_names = {"a", "b", "c"}, .vocabulary = 8};
  for (std::int64_t i = 0; i < examples; ++i) {
    data::Example example;
    example.label = i % 3;
    example.tokens.resize(20 + engine() % 12);
    for (auto& token : example.tokens) {
      token = static_cast<std::int32_t>(engine() % 2 == 0 ? example.label + 1 : 1 + engine() % 7);
    }
    dataset.examples.push_back(std::move(example));
  }
  return dataset;
}

inline SequenceExamples toy_examples(std::int64_t examples, std::uint64_t seed) {
  return SequenceExamples(toy_data(examples, seed));
}

inline models::SequenceEncoderConfig toy_model_config(const std::string& mechanism) {
  models::SequenceEncoderConfig config;
  config.vocabulary = 8;
  config.positions = 32;
  config.classes = 3;
  config.width = 16;
  config.layers = 2;
  config.heads = 2;
  config.mlp_width = 16;
  config.head_width = 16;
  config.dropout = 0.1;
  config.attention.mechanism = mechanism;
  config.attention.bits = 8;
  config.attention.supports = 6;
  config.attention.group_bits = 4;
  return config;
}

inline std::shared_ptr<models::SequenceEncoderImpl> toy_model(const std::string& mechanism,
                                                              std::uint64_t seed) {
  return std::make_shared<models::SequenceEncoderImpl>(toy_model_config(mechanism), seed);
}

inline TaskInfo toy_task() {
  return {.class_names = {"a", "b", "c"}, .tokeniser = "bytes", .max_length = 32};
}

inline TrainConfig toy_train_config() {
  TrainConfig config;
  config.steps = 20;
  config.batch_size = 8;
  config.learning_rate = 5e-3;
  config.warmup_steps = 4;
  config.weight_decay = 0.01;
  config.label_smoothing = 0.1;
  config.log_every = 3;
  config.eval_every = 4;
  config.checkpoint_every = 5;
  config.learning_examples = 8;
  config.hash_neighbours = 4;
  config.hash_iterations = 5;
  config.seed = 7;
  return config;
}

/// An empty folder of this test's own.
inline std::filesystem::path fresh_folder() {
  const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name =
      std::string(test->test_suite_name()) + "." + test->name() + "." + std::to_string(::getpid());
  for (char& c : name) c = c == '/' ? '_' : c;
  const auto folder = std::filesystem::path(::testing::TempDir()) / name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

}  // namespace ecoformer::train
