// Every wrong input: the exit code, one clear message, and nothing written.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <torch/torch.h>

#include <csignal>
#include <functional>
#include <limits>

#include "cli/program.h"
#include "ecoformer/io/safetensors.h"

namespace ecoformer::cli_test {
namespace {

using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

/// The run failed with `code`, said `fragment` in one message and nothing on stdout.
void expect_failure(const Arguments& arguments, int code, const std::string& fragment) {
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr(fragment));
  std::size_t errors = 0;
  for (std::size_t at = 0; (at = outcome.err.find("error: ", at)) != std::string::npos; ++at)
    ++errors;
  EXPECT_EQ(errors, 1U) << outcome.err;
}

TEST(BadInput, Usage) {
  expect_failure({}, 2, "subcommand");
  expect_failure({"fly"}, 2, "fly");
  expect_failure({"energy", "--wings", "2"}, 2, "--wings");
  expect_failure({"energy", "--model", "giant"}, 2, "giant");
  expect_failure({"energy", "--attention", "hope"}, 2, "hope");
  expect_failure({"energy", "--attention", "original"}, 2, "original");
  expect_failure({"energy", "--image-size", "224"}, 2, "--image-size");
  expect_failure({"energy", "--model", "pvt_v2_b0", "--tokens", "100"}, 2, "--tokens");
  expect_failure({"energy", "--model", "pvt_v2_b0", "--image-size", "16"}, 2, "16 x 16 pixels");
  expect_failure({"energy", "--format", "xml"}, 2, "--format");
  expect_failure({"energy", "--tokens", "many"}, 2, "--tokens");
  expect_failure({"energy", "--bits", "65"}, 2, "bits");
  expect_failure({"energy", "--group-bits", "5"}, 2, "group_bits");
  expect_failure({"energy", "--width", "65"}, 2, "heads");
  expect_failure({"energy", "--isa", "abacus"}, 2, "--isa");
  expect_failure({"attend", "--input", "x"}, 2, "--output");
  expect_failure({"bench"}, 2, "subcommand");
  expect_failure({"bench", "attention", "--tokens", "0"}, 2, "--tokens");
  expect_failure({"bench", "attention", "--attention", "hope"}, 2, "hope");
  expect_failure({"bench", "attention", "--plot", "/proc/plot.svg"}, 1, "/proc");
}

TEST(BadInput, Configuration) {
  const Folder folder;
  const auto refused = [&](const std::string& content, const std::string& fragment) {
    write_file(folder / "c.toml", content);
    const Arguments arguments{"train", "--config", folder / "c.toml", "--dump-config"};
    expect_failure(arguments, 2, fragment);
    expect_failure(arguments, 2, "c.toml");
  };
  refused("widht = 64\n", "'widht'");
  refused("[model]\nwidth = 64\n", "[model]");
  refused("width = \"wide\"\n", "'width'");
  refused("width = 1.5\n", "'width'");
  refused("width = true\n", "'width'");
  refused("learning-rate = false\n", "'learning-rate'");
  refused("attention = \"hope\"\n", "'attention'");
  refused("resume = true\n", "'resume'");
  refused("steps = 10\nwidth = 64\nsteps = 20\n", "'steps'");
  expect_failure({"train", "--config", folder / "none.toml"}, 2, "none.toml");
}

TEST(BadInput, TrainingData) {
  const Folder folder;
  const auto refused = [&](const std::string& data, const std::string& fragment) {
    expect_failure(
        Arguments{"train", "--data", data, "--output", folder / "run"} + tiny_training(10), 2,
        fragment);
    EXPECT_FALSE(std::filesystem::exists(folder / "run")) << data;
  };
  refused("", "--data");
  refused("listops", "listops:FOLDER");
  refused("stars:" + (folder / "x"), "stars:");
  refused("text:" + (folder / "nowhere"), "nowhere");

  std::filesystem::create_directories(folder / "empty");
  refused("text:" + (folder / "empty"), "empty");
  refused("listops:" + (folder / "empty"), "basic_train.tsv");

  for (int i = 0; i < 10; ++i) {
    write_file(folder / ("classes/bad/" + std::to_string(i)), "no");
    write_file(folder / ("zero/bad/" + std::to_string(i)), "no");
    write_file(folder / ("zero/good/" + std::to_string(i)), i == 4 ? "" : "yes");
  }
  std::filesystem::create_directories(folder / "classes/good");
  refused("text:" + (folder / "classes"), "classes/good");
  refused("text:" + (folder / "zero"), "zero/good/4");

  for (const char* name : {"basic_train.tsv", "basic_val.tsv", "basic_test.tsv"}) {
    write_file(folder / ("rows/" + std::string(name)),
               "Source\tTarget\r\n( ( ( [MAX 2 ) 3 ) ] )\r\n");
  }
  refused("listops:" + (folder / "rows"), "basic_train.tsv, line 2");
}

TEST(BadInput, SequenceLongerThanTheModel) {
  const Folder folder;
  const std::string data = make_listops(folder);
  const Arguments arguments{"train", "--data", data, "--output", folder / "run"};
  expect_failure(arguments + tiny_training(10) + Arguments{"--max-length", "20"}, 2, "20");
  expect_failure(arguments + tiny_training(10) + Arguments{"--positions", "20"}, 2, "20");
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

// Files under /proc cannot be created, by no user.
TEST(BadInput, OutputThatCannotBeWritten) {
  const Folder folder;
  expect_failure({"data", "--output", "/proc/out"}, 1, "/proc");
  const std::string data = make_listops(folder);
  expect_failure(Arguments{"train", "--data", data, "--output", "/proc/run"} + tiny_training(10), 1,
                 "/proc");
  const std::string fixture = std::string(ECO_FIXTURES) + "/attention_b2_h1_n64_d32.safetensors";
  expect_failure({"attend", "--input", fixture, "--output", "/proc/y.safetensors"}, 1, "/proc");
  expect_failure({"attend", "--input", fixture, "--output", folder.path().string()}, 2, "--output");
}

/// Programs started while it lives cannot make a file longer than `bytes`: write(2) then fails in
/// the middle, as on a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limited{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(BadInput, FullDisk) {
  const Folder folder;
  const std::string listops = make_listops(folder);
  const Arguments training = Arguments{"train", "--data", listops} + tiny_training(10);
  ASSERT_EQ(run(training + Arguments{"--output", folder / "dense"}).code, 0);
  const std::string checkpoint = folder / "dense/last.safetensors";
  const std::string fixture = std::string(ECO_FIXTURES) + "/attention_b2_h1_n64_d32.safetensors";
  write_file(folder / "y.safetensors", "kept");

  const FullDisk full(3000);
  expect_failure({"data", "--output", folder / "data"}, 1, "basic_train.tsv");
  EXPECT_TRUE(std::filesystem::is_empty(folder / "data"));
  expect_failure(training + Arguments{"--output", folder / "run"}, 1, "last.safetensors");
  EXPECT_TRUE(std::filesystem::is_empty(folder / "run"));
  expect_failure({"convert", "--checkpoint", checkpoint, "--data", listops, "--neighbours", "2",
                  "--output", folder / "y.safetensors"},
                 1, "y.safetensors");
  expect_failure({"attend", "--input", fixture, "--output", folder / "y.safetensors", "--semantics",
                  "official", "--bandwidth", "per_input"},
                 1, "y.safetensors");
  EXPECT_EQ(read_file(folder / "y.safetensors"), "kept");
}

TEST(BadInput, Checkpoints) {
  const Folder folder;
  const std::string fixture = std::string(ECO_FIXTURES) + "/attention_b2_h1_n64_d32.safetensors";
  expect_failure({"predict", "--checkpoint", folder / "none", "text"}, 2, "none");
  expect_failure({"predict", "--checkpoint", fixture, "text"}, 2, "checkpoint");
  write_file(folder / "cut.safetensors", read_file(fixture).substr(0, 1000));
  expect_failure({"inspect", folder / "cut.safetensors"}, 2, "cut.safetensors");
  expect_failure(
      {"convert", "--checkpoint", fixture, "--data", "listops:x", "--output", folder / "y"}, 2,
      "checkpoint");
  EXPECT_FALSE(std::filesystem::exists(folder / "y"));
}

TEST(BadInput, Attend) {
  const Folder folder;
  const std::string fixture = std::string(ECO_FIXTURES) + "/attention_b2_h1_n64_d32.safetensors";
  const io::TensorFile good = io::read_safetensors(fixture);
  write_file(folder / "y.safetensors", "kept");
  const auto refused = [&](const std::function<void(io::TensorFile&)>& spoil,
                           const std::string& fragment,
                           const std::string& bandwidth = "per_input") {
    io::TensorFile file = good;
    spoil(file);
    io::write_safetensors(folder / "x.safetensors", file);
    expect_failure({"attend", "--input", folder / "x.safetensors", "--output",
                    folder / "y.safetensors", "--semantics", "official", "--bandwidth", bandwidth},
                   2, fragment);
    EXPECT_EQ(read_file(folder / "y.safetensors"), "kept");
  };
  refused([](auto& file) { file.tensors.erase("v"); }, "'v'");
  refused([](auto& file) { file.tensors.erase("qk"); }, "'q'");
  refused(
      [](auto& file) {
        file.tensors["qk"] = file.tensors["qk"].clone();
        file.tensors["qk"][1][0][3][5] = std::numeric_limits<float>::quiet_NaN();
      },
      "[1, 0, 3, 5]");
  refused([](auto& file) { file.tensors["qk"] = file.tensors["qk"].slice(3, 0, 16); },
          "'supports'");
  refused([](auto& file) { file.tensors["qk"] = file.tensors["qk"].to(torch::kLong); }, "floating");
  refused([](auto& file) { file.tensors["weight"] = file.tensors["weight"].slice(2, 0, 7); },
          "'weight'");
  refused([](auto& file) { file.tensors["weight"] = torch::zeros({1, 65, 25}); }, "64 bits");
  refused([](auto& file) { file.tensors["supports"] = file.tensors["supports"] * 2; }, "unit");
  refused([](auto& file) { file.tensors["mask"] = torch::zeros({2, 64}, torch::kBool); }, "'mask'");
  refused([](auto&) {}, "'bandwidth'", "frozen");
  refused([](auto& file) { file.tensors["bandwidth"] = torch::zeros({1}); }, "above 0", "frozen");
}

}  // namespace
}  // namespace ecoformer::cli_test
