// Vision models go the same way as the sequence encoder: trained, resumed, converted, evaluated.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors.h"
#include "ecoformer/io/state.h"
#include "ecoformer/models/pvt_v2.h"
#include "ecoformer/train/convert.h"
#include "ecoformer/train/pretrained.h"
#include "ecoformer/train/trainer.h"
#include "gmock/gmock.h"
#include "train/toy.h"
#include "train/weight_average.h"

namespace ecoformer::train {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

constexpr std::int64_t kSize = 32;

/// Three classes: the channel that is bright. Pictures at the indices of `broken` cannot be read.
data::ImageDataset toy_images(std::int64_t count, std::uint64_t seed,
                              const std::vector<std::int64_t>& broken = {}) {
  data::ImageDataset dataset{.name = "toy", .class_names = {"red", "green", "blue"}};
  for (std::int64_t i = 0; i < count; ++i) dataset.labels.push_back(i % 3);
  dataset.image = [seed, broken](std::int64_t index) {
    if (std::find(broken.begin(), broken.end(), index) != broken.end()) {
      throw InputError("toy: broken picture " + std::to_string(index));
    }
    std::mt19937_64 engine(seed + static_cast<std::uint64_t>(index));
    data::Image image{.height = kSize, .width = kSize};
    for (std::int64_t i = 0; i < 3 * kSize * kSize; ++i) {
      image.pixels.push_back(
          static_cast<std::uint8_t>(engine() % 128 + (i % 3 == index % 3) * 127));
    }
    return image;
  };
  return dataset;
}

ImageExamples toy_pictures(std::int64_t count, std::uint64_t seed, bool strict = false,
                           const std::vector<std::int64_t>& broken = {}) {
  return ImageExamples(toy_images(count, seed, broken), {.size = kSize, .strict = strict});
}

std::shared_ptr<models::Classifier> toy_pyramid(const std::string& mechanism,
                                                std::uint64_t seed = 1) {
  models::PvtV2Config config;
  config.classes = 3;
  config.widths = {8, 16};
  config.depths = {1, 1};
  config.heads = {2, 2};
  config.mlp_ratios = {2, 2};
  config.sr_ratios = {2, 1};
  config.drop_path = 0.1;
  config.attention.mechanism = mechanism;
  config.attention.bits = 8;
  config.attention.supports = 6;
  config.attention.group_bits = 4;
  return std::make_shared<models::PvtV2Impl>(config, seed);
}

TaskInfo toy_image_task() {
  return {.class_names = {"red", "green", "blue"}, .tokeniser = "image", .image_size = kSize};
}

TrainConfig toy_image_config() {
  TrainConfig config = toy_train_config();
  config.steps = 12;
  config.batch_size = 6;
  config.ema_decay = 0.5;
  config.augment = true;
  config.mix = true;
  config.repeats = 2;
  return config;
}

TrainResult train_pictures(const std::string& mechanism, const TrainConfig& config,
                           TrainOptions options) {
  const ImageExamples examples = toy_pictures(30, 1), validation = toy_pictures(12, 100);
  options.workers = 0;
  return Trainer(toy_pyramid(mechanism), toy_image_task(), examples, validation, config,
                 std::move(options))
      .run();
}

TEST(ImageTraining, LearnsAndComesBackWithItsTask) {
  for (const char* mechanism : {"original", "softmax", "eco"}) {
    const fs::path folder = fresh_folder();
    TrainConfig config = toy_train_config();
    config.steps = 30;
    // Chance is 1/3; the brightest channel names the class.
    EXPECT_GT(train_pictures(mechanism, config, {.output = folder}).best_accuracy, 0.9)
        << mechanism;
    const Checkpoint loaded = load_model(folder / "best.safetensors");
    EXPECT_EQ(loaded.task, toy_image_task());
    EXPECT_EQ(loaded.model->type(), "pvt_v2");
    EXPECT_EQ(loaded.model->config_json(), toy_pyramid(mechanism)->config_json());
  }
}

TEST(ImageTraining, StoppedRunsContinueBitForBit) {
  for (const char* mechanism : {"original", "eco"}) {
    const fs::path straight = fresh_folder() / "straight", stopped = straight.parent_path() / "b";
    train_pictures(mechanism, toy_image_config(), {.output = straight});
    int asked = 0;
    train_pictures(mechanism, toy_image_config(),
                   {.output = stopped, .stop_requested = [&] { return asked++ == 7; }});
    const TrainResult result =
        train_pictures(mechanism, toy_image_config(), {.output = stopped, .resume = true});
    EXPECT_EQ(result.step, 12);
    for (const char* name : {"last.safetensors", "best.safetensors"}) {
      const io::TensorFile a = io::read_safetensors(straight / name);
      const io::TensorFile b = io::read_safetensors(stopped / name);
      ASSERT_EQ(a.tensors.size(), b.tensors.size());
      for (const auto& [key, tensor] : a.tensors) {
        EXPECT_TRUE(tensor.equal(b.tensors.at(key))) << mechanism << " " << name << " " << key;
      }
    }
    EXPECT_TRUE(io::read_safetensors(straight / "last.safetensors")
                    .tensors.contains("ema.patch_embed1.proj.weight"));
  }
}

TEST(ImageTraining, LeavesOutWhatCannotBeReadUnlessStrict) {
  const ImageExamples validation = toy_pictures(12, 100, false, {5});
  for (const bool strict : {false, true}) {
    const ImageExamples examples = toy_pictures(30, 1, strict, {4, 20});
    std::vector<std::string> events;
    Trainer trainer(
        toy_pyramid("original"), toy_image_task(), examples, validation, toy_train_config(),
        {.output = fresh_folder(), .workers = 0, .on_event = [&](const std::string& message) {
           events.push_back(message);
         }});
    if (strict) {
      EXPECT_THROW(trainer.run(), InputError);
      continue;
    }
    trainer.run();
    EXPECT_THAT(events, Contains(HasSubstr("broken picture 20")));
    EXPECT_THAT(events, Contains(HasSubstr("1 validation examples")));
  }
}

TEST(ImageTraining, RefusesOtherInputsAndClasses) {
  const auto complaint = [](const std::shared_ptr<models::Classifier>& model,
                            const Examples& examples) {
    try {
      Trainer(model, {}, examples, examples, toy_train_config(), {.output = fresh_folder() / "no"});
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(complaint(toy_pyramid("original"), toy_examples(9, 1)), HasSubstr("images"));
  EXPECT_THAT(complaint(toy_model("softmax", 1), toy_pictures(9, 1)), HasSubstr("sequences"));
  data::ImageDataset more = toy_images(9, 1);
  more.class_names.emplace_back("black");
  EXPECT_THAT(complaint(toy_pyramid("original"), ImageExamples(more, {.size = kSize})),
              AllOf(HasSubstr("3 classes"), HasSubstr("got 4")));
  EXPECT_THAT(complaint(toy_pyramid("original"), ImageExamples(toy_images(9, 1), {.size = 4})),
              HasSubstr("4 x 4 pixels"));
  TrainConfig mixed = toy_train_config();
  mixed.mix = true;
  EXPECT_THROW(toy_examples(9, 1).training_loader(mixed, 0), InputError);
}

TEST(ImageEvaluation, CountsTheFiveLikeliest) {
  models::PvtV2Config config;
  config.classes = 7;
  config.widths = {8};
  config.depths = config.heads = config.mlp_ratios = config.sr_ratios = {1};
  models::PvtV2Impl model(config);
  model.eval();
  data::ImageDataset dataset = toy_images(40, 1);
  dataset.class_names = {"0", "1", "2", "3", "4", "5", "6"};
  for (std::size_t i = 0; i < dataset.labels.size(); ++i) {
    dataset.labels[i] = static_cast<std::int64_t>(i % 7);
  }
  const ImageExamples examples(dataset, {.size = kSize});
  const Evaluation result = evaluate(model, *examples.evaluation_loader(8, 0));

  const torch::NoGradGuard no_grad;
  const data::Batch all = examples.sample(40, 0, 0);
  const torch::Tensor ranks =
      model.forward(all.inputs, {}).argsort(-1, /*descending=*/true).eq(all.labels.unsqueeze(-1));
  EXPECT_EQ(result.examples, 40);
  EXPECT_EQ(result.accuracy, ranks.slice(1, 0, 1).sum().item<double>() / 40);
  EXPECT_EQ(result.top5_accuracy, ranks.slice(1, 0, 5).sum().item<double>() / 40);
}

TEST(ImageConversion, GoesFromTheOriginalAttentionToEcoFormer) {
  const auto original = toy_pyramid("original", 3);
  const auto before = io::state_of(*original);
  ConvertOptions options;
  options.attention.bits = 8;
  options.attention.supports = 6;
  options.attention.group_bits = 4;
  options.learner.neighbours = 4;
  options.examples = 6;
  const Conversion conversion = convert(original, toy_pictures(12, 1), options);
  EXPECT_EQ(conversion.model->config_json().at("attention"), "eco");
  EXPECT_EQ(conversion.heads.size(), 2u);  // One block in the stages but the last.
  const auto after = io::state_of(*conversion.model);
  EXPECT_TRUE(after.at("block1.0.attn.qkv.weight")
                  .equal(torch::cat({before.at("block1.0.attn.q.weight"),
                                     before.at("block1.0.attn.kv.weight")})));
  EXPECT_FALSE(after.contains("block1.0.attn.sr.weight"));
  EXPECT_TRUE(after.at("block1.0.mlp.fc1.weight").equal(before.at("block1.0.mlp.fc1.weight")));

  EXPECT_EQ(to_softmax(*original)->config_json().at("attention"), "softmax");
  EXPECT_THROW(to_softmax(*conversion.model), InputError);
}

// 4 x 4 tokens in the first stage: fewer than two times the ten neighbours.
TEST(ImageConversion, LearnsOnMapsOfFewTokens) {
  ConvertOptions options;
  options.attention.supports = 6;
  options.examples = 6;
  data::ImageDataset cut = toy_images(12, 1);
  cut.image = [whole = cut.image](std::int64_t index) {
    return data::crop(whole(index), {.height = 16, .width = 16});
  };
  const Conversion conversion =
      convert(toy_pyramid("softmax"), ImageExamples(cut, {.size = 16}), options);
  for (const auto& layer : conversion.model->attentions()) {
    EXPECT_TRUE(dynamic_cast<nn::EcoAttention&>(*layer).ksh->is_learned());
  }
}

TEST(Pretrained, NewHeadsAndConfigurationsKeepTheRest) {
  const auto model = toy_pyramid("eco", 3);
  const auto before = io::state_of(*model);
  const auto other = with_new_head(*model, 5, 9);
  EXPECT_EQ(other->classes(), 5);
  for (const auto& [name, tensor] : io::state_of(*other)) {
    if (name.starts_with("head.")) continue;
    EXPECT_TRUE(tensor.equal(before.at(name))) << name;
  }
  const auto same = with_new_head(*model, 3, 9);
  EXPECT_FALSE(io::state_of(*same).at("head.weight").equal(before.at("head.weight")));

  const auto dropping = with_config(*model, {{"drop_path", 0.3}});
  EXPECT_EQ(dropping->config_json().at("drop_path"), 0.3);
  for (const auto& [name, tensor] : io::state_of(*dropping)) {
    EXPECT_TRUE(tensor.equal(before.at(name))) << name;
  }
  EXPECT_THROW(with_config(*model, {{"widths", {8, 32}}}), InputError);
}

TEST(WeightAverage, AveragesSwapsAndComesBack) {
  torch::nn::Linear layer(2, 1);
  const torch::NoGradGuard no_grad;
  layer->weight.fill_(1);
  layer->bias.fill_(0);
  WeightAverage average(*layer, 0.75);
  layer->weight.fill_(5);
  average.update(*layer);
  EXPECT_EQ(average.state().at("weight")[0][0].item<float>(), 0.75 * 1 + 0.25 * 5);
  {
    const AveragedScope scope(average, *layer);
    EXPECT_EQ(layer->weight[0][1].item<float>(), 2);
  }
  EXPECT_EQ(layer->weight[0][1].item<float>(), 5);

  WeightAverage other(*layer, 0.75);
  other.load(average.state());
  EXPECT_TRUE(other.state().at("weight").equal(average.state().at("weight")));
  EXPECT_THROW(other.load({}), InputError);
  EXPECT_TRUE(WeightAverage(*layer, 0).state().empty());
}

}  // namespace
}  // namespace ecoformer::train
