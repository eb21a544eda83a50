// The training loop: it learns, it resumes exactly, and it fails without harm.
#include "ecoformer/train/trainer.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <stdexcept>
#include <vector>

#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors.h"
#include "ecoformer/io/state.h"
#include "gmock/gmock.h"
#include "train/toy.h"

namespace ecoformer::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

const SequenceExamples& train_data() {
  static const SequenceExamples examples = toy_examples(60, 1);
  return examples;
}

const SequenceExamples& validation_data() {
  static const SequenceExamples examples = toy_examples(30, 2);
  return examples;
}

struct Scenario {
  models::SequenceEncoderConfig model = toy_model_config("softmax");
  TrainConfig config = toy_train_config();
  std::uint64_t model_seed = 1;
  const Examples* train = &train_data();
};

Trainer make_trainer(const Scenario& scenario, TrainOptions options) {
  options.workers = 0;
  auto model = std::make_shared<models::SequenceEncoderImpl>(scenario.model, scenario.model_seed);
  return Trainer(std::move(model), toy_task(), *scenario.train, validation_data(), scenario.config,
                 std::move(options));
}

/// What constructing a trainer complains about.
std::string complaint(const Scenario& scenario, const TrainOptions& options) {
  try {
    make_trainer(scenario, options);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

std::vector<nlohmann::json> log_lines(const fs::path& folder) {
  std::vector<nlohmann::json> lines;
  std::ifstream stream(folder / "metrics.jsonl");
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

void expect_same_files(const fs::path& a, const fs::path& b) {
  const io::TensorFile first = io::read_safetensors(a), second = io::read_safetensors(b);
  ASSERT_EQ(first.tensors.size(), second.tensors.size());
  for (const auto& [name, tensor] : first.tensors) {
    ASSERT_TRUE(second.tensors.contains(name)) << name;
    EXPECT_TRUE(tensor.equal(second.tensors.at(name))) << name;
  }
  auto progress = nlohmann::json::parse(first.metadata.at("progress"));
  auto other = nlohmann::json::parse(second.metadata.at("progress"));
  progress.erase("seconds");
  other.erase("seconds");
  EXPECT_EQ(progress, other);
}

TEST(Trainer, LearnsAToyTask) {
  for (const char* mechanism : {"softmax", "eco"}) {
    const fs::path folder = fresh_folder();
    Scenario scenario;
    scenario.model = toy_model_config(mechanism);
    scenario.config.steps = 60;
    Trainer trainer = make_trainer(scenario, {.output = folder});
    const TrainResult result = trainer.run();
    EXPECT_EQ(result.status, TrainStatus::kFinished);
    EXPECT_EQ(result.step, 60);
    // Chance is 1/3; half of the tokens name the class.
    EXPECT_GT(result.best_accuracy, 0.9) << mechanism;
    const auto lines = log_lines(folder);
    ASSERT_GT(lines.size(), 2u);
    EXPECT_LT(lines[lines.size() - 2].at("loss"), 0.7 * lines.front().at("loss").get<double>());
    EXPECT_EQ(lines.back().at("kind"), "eval");
    EXPECT_EQ(load_model(folder / "best.safetensors").task, toy_task());
  }
}

struct ResumeCase {
  const char* name;
  const char* mechanism;
  std::int64_t relearn_steps;
  std::int64_t relearn_epochs;
};

void PrintTo(const ResumeCase& resume, std::ostream* out) {
  *out << resume.name;
}

class Resume : public ::testing::TestWithParam<ResumeCase> {
 protected:
  Scenario scenario() const {
    Scenario scenario;
    scenario.model = toy_model_config(GetParam().mechanism);
    scenario.config.relearn_every_steps = GetParam().relearn_steps;
    scenario.config.relearn_every_epochs = GetParam().relearn_epochs;
    return scenario;
  }
  fs::path straight_run(const fs::path& folder) const {
    make_trainer(scenario(), {.output = folder / "straight"}).run();
    return folder / "straight";
  }
  void resume(const fs::path& folder) const {
    Scenario other = scenario();
    other.model_seed = 99;  // The weights come from the checkpoint.
    const TrainResult result = make_trainer(other, {.output = folder, .resume = true}).run();
    EXPECT_EQ(result.step, 20);
  }
};

// 60 examples in batches of 8: 8 batches an epoch, so that 20 steps cross two epochs' borders.
TEST_P(Resume, StoppedRunsContinueBitForBit) {
  const fs::path folder = fresh_folder();
  const fs::path straight = straight_run(folder);
  for (const int stop_at : {0, 8, 10}) {
    const fs::path stopped = folder / fmt::format("stopped{}", stop_at);
    int asked = 0;
    const TrainResult result =
        make_trainer(scenario(),
                     {.output = stopped, .stop_requested = [&] { return asked++ == stop_at; }})
            .run();
    EXPECT_EQ(result.status, TrainStatus::kStopped);
    EXPECT_EQ(result.step, stop_at);
    resume(stopped);
    expect_same_files(straight / "last.safetensors", stopped / "last.safetensors");
    expect_same_files(straight / "best.safetensors", stopped / "best.safetensors");
  }
}

TEST_P(Resume, KilledRunsContinueBitForBitFromTheLastCheckpoint) {
  const fs::path folder = fresh_folder();
  const fs::path straight = straight_run(folder), killed = folder / "killed";
  const auto kill = [](const TrainProgress& progress) {
    if (progress.step == 14) throw std::runtime_error("killed");
  };
  EXPECT_THROW(make_trainer(scenario(), {.output = killed, .on_progress = kill}).run(),
               std::runtime_error);
  std::ofstream(killed / "metrics.jsonl", std::ios::app) << R"({"kind": "tra)";
  resume(killed);  // From step 10; the log had lines up to step 12.
  expect_same_files(straight / "last.safetensors", killed / "last.safetensors");
  expect_same_files(straight / "best.safetensors", killed / "best.safetensors");

  const auto first = log_lines(straight), second = log_lines(killed);
  ASSERT_EQ(first.size(), second.size());
  for (std::size_t i = 0; i < first.size(); ++i) {
    for (const char* key : {"kind", "step", "epoch", "loss", "accuracy"}) {
      EXPECT_EQ(first[i].at(key), second[i].at(key)) << i << " " << key;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Resume,
                         ::testing::Values(ResumeCase{"softmax", "softmax", 0, 0},
                                           ResumeCase{"eco", "eco", 0, 0},
                                           ResumeCase{"eco_relearn_steps", "eco", 5, 0},
                                           ResumeCase{"eco_relearn_epochs", "eco", 0, 1}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Trainer, RelearnsHashFunctionsWhenDue) {
  Scenario scenario;
  scenario.model = toy_model_config("eco");
  scenario.config.steps = 17;
  const auto learned_at = [&](std::int64_t every_steps, std::int64_t every_epochs) {
    scenario.config.relearn_every_steps = every_steps;
    scenario.config.relearn_every_epochs = every_epochs;
    std::vector<std::string> events;
    make_trainer(scenario, {.output = fresh_folder(),
                            .on_event =
                                [&](const std::string& message) {
                                  const auto at = message.find(": learned");
                                  if (at != std::string::npos)
                                    events.push_back(message.substr(0, at));
                                }})
        .run();
    return events;
  };
  EXPECT_THAT(learned_at(0, 0), ::testing::ElementsAre("step 0"));
  EXPECT_THAT(learned_at(6, 0), ::testing::ElementsAre("step 0", "step 6", "step 12"));
  EXPECT_THAT(learned_at(0, 1), ::testing::ElementsAre("step 0", "step 8", "step 16"));
}

TEST(Trainer, FinishedRunsGoOnWithMoreSteps) {
  const fs::path folder = fresh_folder();
  Scenario scenario;
  scenario.config.steps = 10;
  EXPECT_EQ(make_trainer(scenario, {.output = folder}).run().step, 10);
  EXPECT_EQ(make_trainer(scenario, {.output = folder, .resume = true}).run().step, 10);
  scenario.config.steps = 13;
  EXPECT_EQ(make_trainer(scenario, {.output = folder, .resume = true}).run().step, 13);
  scenario.config.steps = 12;
  EXPECT_THAT(complaint(scenario, {.output = folder, .resume = true}),
              HasSubstr("steps: 13, now 12"));
}

TEST(Trainer, StopsAtANonFiniteLossAndKeepsTheLastGoodCheckpoint) {
  const fs::path folder = fresh_folder();
  Scenario scenario;
  scenario.config.learning_rate = 1e30;
  scenario.config.eval_every = 0;
  scenario.config.checkpoint_every = 0;
  try {
    make_trainer(scenario, {.output = folder}).run();
    FAIL() << "expected an Error";
  } catch (const InputError&) {
    FAIL() << "not the input's fault";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("finite loss at step 2"),
                                    HasSubstr((folder / "last.safetensors").string())));
  }
  const auto start = io::state_of(*models::SequenceEncoder(scenario.model, scenario.model_seed));
  const Checkpoint kept = load_checkpoint(folder / "last.safetensors");
  EXPECT_EQ(kept.training->progress.step, 0);
  for (const auto& [name, tensor] : io::state_of(*kept.model)) {
    EXPECT_TRUE(tensor.equal(start.at(name))) << name;
  }
}

TEST(Trainer, RefusesToStartFromWeightsThatAreNotFinite) {
  const fs::path folder = fresh_folder();
  const auto model = toy_model("softmax", 1);
  {
    const torch::NoGradGuard no_grad;
    model->parameters().front().fill_(NAN);
  }
  Trainer trainer(model, toy_task(), train_data(), validation_data(), toy_train_config(),
                  {.output = folder, .workers = 0});
  EXPECT_THROW(trainer.run(), Error);
  EXPECT_TRUE(fs::is_empty(folder));
}

TEST(Trainer, LeavesAnEarlierRunAlone) {
  const fs::path folder = fresh_folder();
  const Scenario scenario;
  make_trainer(scenario, {.output = folder}).run();
  EXPECT_THAT(complaint(scenario, {.output = folder}), HasSubstr(folder.string()));
  EXPECT_NE(complaint(scenario, {.output = folder, .resume = true, .overwrite = true}), "");
  make_trainer(scenario, {.output = folder, .overwrite = true}).run();
  EXPECT_EQ(log_lines(folder).front().at("step"), 3);
}

TEST(Trainer, ResumesOnlyTheSameRun) {
  const fs::path folder = fresh_folder();
  const TrainOptions resume{.output = folder, .resume = true};
  EXPECT_THAT(complaint({}, resume), HasSubstr("last.safetensors"));
  make_trainer({}, {.output = folder}).run();

  Scenario other_config;
  other_config.config.learning_rate = 1e-3;
  EXPECT_THAT(complaint(other_config, resume), HasSubstr("learning_rate: 0.005, now 0.001"));
  Scenario other_model;
  other_model.model.mlp_width = 24;
  EXPECT_THAT(complaint(other_model, resume), HasSubstr("mlp_width: 16, now 24"));
  Scenario other_data;
  const SequenceExamples other = toy_examples(60, 3);
  other_data.train = &other;
  EXPECT_THAT(complaint(other_data, resume), HasSubstr("same data"));

  Checkpoint weights = load_model(folder / "last.safetensors");
  save_checkpoint(folder / "last.safetensors", weights);
  EXPECT_THAT(complaint({}, resume), HasSubstr("weights alone"));
}

TEST(Trainer, RefusesDataTheModelCannotRead) {
  const TrainOptions options{.output = fresh_folder() / "none"};
  Scenario scenario;
  scenario.model.positions = 25;
  EXPECT_THAT(complaint(scenario, options), HasSubstr("25 positions"));
  scenario = {};
  scenario.model.classes = 4;
  EXPECT_THAT(complaint(scenario, options), HasSubstr("4 classes"));
  scenario = {};
  scenario.model.vocabulary = 6;
  EXPECT_THAT(complaint(scenario, options), HasSubstr("vocabulary of 6"));
  EXPECT_FALSE(fs::exists(options.output));
}

TEST(Trainer, FailsBeforeTheFirstStepWhereItCannotWrite) {
  const fs::path folder = fresh_folder();
  std::ofstream(folder / "file") << "in the way";
  bool stepped = false;
  Trainer trainer = make_trainer(
      {}, {.output = folder / "file" / "run", .on_progress = [&](const auto&) { stepped = true; }});
  EXPECT_THROW(trainer.run(), Error);
  EXPECT_FALSE(stepped);
}

}  // namespace
}  // namespace ecoformer::train
