// The training configuration in JSON: exact both ways, and strict.
#include "ecoformer/train/train_config.h"

#include <nlohmann/json.hpp>

#include "ecoformer/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ecoformer::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string complaint(const nlohmann::json& json) {
  try {
    train_config_from_json(json);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(TrainConfig, SurvivesJson) {
  TrainConfig config;
  config.learning_rate = 0.1 + 0.2;  // Needs all 17 digits.
  config.schedule = "warmup_cosine";
  config.seed = 0xffff'ffff'ffff'fff1;
  const nlohmann::json json = to_json(config);
  const TrainConfig back = train_config_from_json(nlohmann::json::parse(json.dump()));
  EXPECT_EQ(back.learning_rate, config.learning_rate);
  EXPECT_EQ(back.seed, config.seed);
  EXPECT_EQ(to_json(back), json);
}

TEST(TrainConfig, KeepsDefaultsForAbsentKeys) {
  EXPECT_EQ(to_json(train_config_from_json(nlohmann::json::object())), to_json(TrainConfig{}));
}

TEST(TrainConfig, NamesUnknownKeysAndWrongTypes) {
  EXPECT_THAT(complaint({{"learnig_rate", 0.1}}), HasSubstr("'learnig_rate'"));
  EXPECT_THAT(complaint({{"steps", "many"}}), AllOf(HasSubstr("'steps'"), HasSubstr("\"many\"")));
  EXPECT_THAT(complaint({{"steps", 10.5}}), HasSubstr("'steps'"));
  EXPECT_THAT(complaint({{"steps", 0xffff'ffff'ffff'ffff}}), HasSubstr("'steps'"));
  EXPECT_THAT(complaint({{"seed", -1}}), HasSubstr("'seed'"));
  EXPECT_THAT(complaint({{"schedule", 3}}), HasSubstr("'schedule'"));
  EXPECT_THAT(complaint(nlohmann::json::array()), HasSubstr("object"));
}

TEST(TrainConfig, NamesFieldsOutOfRange) {
  EXPECT_THAT(complaint({{"batch_size", 0}}), HasSubstr("'batch_size'"));
  EXPECT_THAT(complaint({{"learning_rate", 0}}), HasSubstr("'learning_rate'"));
  EXPECT_THAT(complaint({{"schedule", "constant"}}), HasSubstr("constant"));
  EXPECT_THAT(complaint({{"steps", 100}}), HasSubstr("'warmup_steps'"));
  EXPECT_THAT(complaint({{"label_smoothing", 1}}), HasSubstr("'label_smoothing'"));
  EXPECT_THAT(complaint({{"relearn_every_steps", 1}, {"relearn_every_epochs", 1}}),
              HasSubstr("relearn_every"));
}

TEST(TrainConfig, ChoosesTheSchedule) {
  TrainConfig config;
  config.steps = 11;
  config.warmup_steps = 5;
  config.learning_rate = 1;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 0), 0.04);
  config.schedule = "warmup_cosine";
  config.warmup_learning_rate = 0.5;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 0), 0.5);
}

}  // namespace
}  // namespace ecoformer::train
