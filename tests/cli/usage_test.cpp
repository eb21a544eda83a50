// Help, version, and the forms of a report.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "cli/program.h"

namespace ecoformer::cli_test {
namespace {

using ::testing::HasSubstr;

TEST(Usage, HelpOfTheProgramNamesEveryCommand) {
  const Outcome help = run({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_EQ(help.err, "");
  for (const char* command : {"train", "convert", "evaluate", "predict", "energy", "data", "attend",
                              "explain", "inspect"}) {
    EXPECT_THAT(help.out, HasSubstr(command));
  }
}

TEST(Usage, HelpOfCommandsShowsDefaults) {
  const std::vector<std::pair<std::string, std::string>> expected{
      {"train", "--learning-rate FLOAT=0.0001"},
      {"convert", "--examples INT=32"},
      {"evaluate", "--batch-size INT=32"},
      {"predict", "--top INT:POSITIVE=1"},
      {"energy", "--bits INT=16"},
      {"data", "--train INT=96000"},
      {"attend", "--beta FLOAT"},
      {"inspect", "--format"}};
  for (const auto& [command, flag] : expected) {
    const Outcome help = run({command, "--help"});
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr(flag)) << command;
    EXPECT_EQ(help.err, "") << command;
  }
}

TEST(Usage, Version) {
  const Outcome version = run({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.out, ::testing::MatchesRegex("ecoformer [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(Usage, EnergyReportsTheSameRowsInEveryFormat) {
  const std::vector<std::string> energy{"energy", "--tokens", "500,2000"};
  const Outcome json = run(energy + std::vector<std::string>{"--format", "json"});
  ASSERT_EQ(json.code, 0) << json.err;
  const nlohmann::json rows = json.json();
  ASSERT_EQ(rows.size(), 8U);  // two lengths, two mechanisms, two countings
  double dense = 0;
  double eco = 0;
  for (const nlohmann::json& row : rows) {
    // The paper's constants; exponentials and divisions as energy.h charges them.
    const double multiplications = row["multiplications"].get<double>() +
                                   6 * row["exponentials"].get<double>() +
                                   row["divisions"].get<double>();
    const double additions = row["additions"].get<double>() + 9 * row["exponentials"].get<double>();
    const double expected = (3.7 * multiplications + 0.9 * additions) * 1e-9;
    EXPECT_NEAR(row["energy_mj"].get<double>(), expected, 1e-12 * expected);
    if (row["tokens"] == 2000 && row["counting"] == "published") {
      (row["attention"] == "softmax" ? dense : eco) = row["energy_mj"];
    }
  }
  EXPECT_LT(eco, dense);

  const Outcome csv = run(energy + std::vector<std::string>{"--format", "csv"});
  std::istringstream lines(csv.out);
  std::string header;
  std::getline(lines, header);
  EXPECT_THAT(header,
              ::testing::StartsWith("model,attention,counting,tokens,multiplications,additions"));
  std::string first;
  std::getline(lines, first);
  EXPECT_THAT(first, ::testing::StartsWith(
                         "sequence_encoder,softmax,published,500," +
                         std::to_string(rows[0]["multiplications"].get<std::int64_t>()) + ","));

  const Outcome table = run(energy);
  EXPECT_EQ(table.code, 0);
  EXPECT_EQ(std::count(table.out.begin(), table.out.end(), '\n'), 2 + 8);
}

TEST(Usage, EnergyOfVisionModelsIsThePapers) {
  const Outcome b0 =
      run({"energy", "--model", "pvt_v2_b0", "--attention", "original,softmax,ecoformer",
           "--counting", "published", "--format", "json"});
  ASSERT_EQ(b0.code, 0) << b0.err;
  const nlohmann::json rows = b0.json();
  ASSERT_EQ(rows.size(), 3U);
  // In mJ to two decimals: original (an independent count of it), softmax, EcoFormer; 73 % saved.
  EXPECT_NEAR(rows[0]["energy_mj"].get<double>(), 2.61, 0.02 * 2.61);
  EXPECT_NEAR(rows[1]["energy_mj"].get<double>(), 9.25, 0.005);
  EXPECT_NEAR(rows[2]["energy_mj"].get<double>(), 2.49, 0.005);
  EXPECT_EQ(rows[2]["image_size"], 224);
  EXPECT_EQ(rows[2]["attention"], "eco-official");

  const Outcome all = run({"energy", "--model", "all", "--image-size", "224,512"});
  EXPECT_EQ(all.code, 0) << all.err;
  // 13 models, two sizes, three kinds of attention, two countings.
  EXPECT_EQ(std::count(all.out.begin(), all.out.end(), '\n'), 2 + 13 * 2 * 3 * 2);
  EXPECT_THAT(all.out, HasSubstr("attention_share"));
}

TEST(Usage, DumpedConfigurationCanBeReadBack) {
  const Folder folder;
  const Outcome first = run({"train", "--dump-config", "--width", "48", "--heads", "3"});
  ASSERT_EQ(first.code, 0) << first.err;
  write_file(folder / "all.toml", first.out);
  const Outcome second = run({"train", "--dump-config", "--config", folder / "all.toml"});
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(second.out, first.out);
  const Outcome flag_wins =
      run({"train", "--dump-config", "--config", folder / "all.toml", "--width", "96"});
  EXPECT_THAT(flag_wins.out, HasSubstr("width=96"));
  EXPECT_THAT(flag_wins.out, HasSubstr("heads=3"));
}

TEST(Usage, ShippedConfigurationsAreValid) {
  for (const auto& file : std::filesystem::directory_iterator(ECO_CONFIGS)) {
    const Outcome outcome = run({"train", "--dump-config", "--config", file.path().string()});
    EXPECT_EQ(outcome.code, 0) << file.path() << outcome.err;
  }
}

TEST(Usage, BenchReportsEveryContenderAtEveryLength) {
  const Folder folder;
  for (const char* what : {"attention", "training"}) {
    const Outcome outcome = run({"bench", what, "--tokens", "64,32", "--seconds", "0", "--threads",
                                 "1", "--plot", folder / "plot.svg", "--format", "json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const nlohmann::json rows = outcome.json();
    ASSERT_EQ(rows.size(), 2U * 6);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const nlohmann::json& row = rows[i];
      EXPECT_EQ(row["tokens"],
                i < 6 ? 32 : 64);  // ascending, in whatever order they were asked for
      const nlohmann::json& softmax = rows[i / 6 * 6];
      EXPECT_EQ(softmax["name"], "softmax");
      EXPECT_DOUBLE_EQ(row["speedup"].get<double>(),
                       softmax["latency_ms"].get<double>() / row["latency_ms"].get<double>());
      EXPECT_DOUBLE_EQ(row["ns_per_token_head"].get<double>(),
                       row["latency_ms"].get<double>() * 1e6 / row["tokens"].get<double>());
    }
    EXPECT_THAT(read_file(folder / "plot.svg"), HasSubstr("eco exponential"));
    EXPECT_THAT(outcome.err, HasSubstr("than softmax"));
  }
}

TEST(Usage, BenchHashLearning) {
  const Outcome outcome =
      run({"bench", "hash-learning", "--tokens", "64", "--seconds", "0", "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(outcome.json().size(), 2U);
  EXPECT_EQ(outcome.json()[0]["name"], "official");
  EXPECT_EQ(outcome.json()[1]["name"], "ours");
}

TEST(Usage, InspectListsTheTensorsOfAnyFile) {
  const Outcome outcome =
      run({"inspect", std::string(ECO_FIXTURES) + "/attention_b2_h1_n64_d32.safetensors",
           "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  bool found = false;
  for (const nlohmann::json& row : outcome.json()) {
    if (row["name"] != "codes") continue;
    found = true;
    EXPECT_EQ(row["dtype"], "I8");
    EXPECT_EQ(row["shape"], "[2, 1, 64, 16]");
  }
  EXPECT_TRUE(found);
}

TEST(Usage, InspectShowsWhatATrainingCheckpointHolds) {
  const Outcome outcome = run({"inspect", std::string(ECO_FIXTURES) + "/torch_legacy.pth"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* text : {"pth.layout", "legacy", "pth.entry.epoch", "transposed", "[3, 2]",
                           "an object of argparse.Namespace"}) {
    EXPECT_THAT(outcome.out, HasSubstr(text));
  }
}

}  // namespace
}  // namespace ecoformer::cli_test
