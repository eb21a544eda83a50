// Spawning, and what the command-line tests share.

#include "cli/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): kill is POSIX
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace ecoformer::cli_test {

Folder::Folder() {
  std::string name = ::testing::TempDir() + "ecoformer-cli-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed: " + name);
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Program::Program(const std::vector<std::string>& arguments, const std::string& input) {
  write_file(folder_ / "in", input);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const int write_flags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, 0, (folder_ / "in").c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, (folder_ / "out").c_str(), write_flags, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, (folder_ / "err").c_str(), write_flags, 0600);
  std::vector<std::string> words{ECO_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int error = posix_spawn(&process_, ECO_PROGRAM, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " ECO_PROGRAM);
}

bool Program::has_ended() {
  if (!ended_) ended_ = waitpid(process_, &status_, WNOHANG) == process_;
  return ended_;
}

bool Program::wait_for_stderr(const std::string& text) {
  while (true) {
    const bool ended = has_ended();  // asked first: what it wrote before ending is then all there
    if (read_file(folder_ / "err").find(text) != std::string::npos) return true;
    if (ended) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void Program::interrupt() const {
  kill(process_, SIGINT);
}

Outcome Program::wait() {
  if (!ended_) waitpid(process_, &status_, 0);
  ended_ = true;
  return {.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_),
          .out = read_file(folder_ / "out"),
          .err = read_file(folder_ / "err")};
}

Outcome run(const std::vector<std::string>& arguments, const std::string& input) {
  return Program(arguments, input).wait();
}

void write_file(const std::string& path, const std::string& content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::string make_listops(const Folder& folder) {
  const std::string path = folder / "listops";
  const Outcome made =
      run({"data", "--output", path, "--train", "64", "--validation", "16", "--test", "24",
           "--min-length", "10", "--max-length", "40", "--max-depth", "4", "--max-args", "4"});
  EXPECT_EQ(made.code, 0) << made.err;
  return "listops:" + path;
}

std::vector<std::string> tiny_training(int steps) {
  return {"--steps",
          std::to_string(steps),
          "--warmup-steps",
          "5",
          "--batch-size",
          "8",
          "--width",
          "16",
          "--heads",
          "2",
          "--layers",
          "1",
          "--mlp-width",
          "16",
          "--head-width",
          "16",
          "--log-every",
          "1",
          "--learning-rate",
          "1e-3",
          "--threads",
          "1",
          "--learning-examples",
          "8",
          "--hash-neighbours",
          "2"};
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace ecoformer::cli_test
