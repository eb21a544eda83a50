// Runs the real program as a user would, and small data for it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ecoformer::cli_test {

/// What a run left behind.
struct Outcome {
  int code = -1;  ///< exit code; 128 + signal if a signal ended it
  std::string out;
  std::string err;

  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

/// A fresh folder of this test's own, removed with the object.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A started program whose stdout and stderr go to files.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const std::string& input = "");
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// Returns once stderr holds `text` (true) or the program has ended without it (false).
  bool wait_for_stderr(const std::string& text);
  void interrupt() const;
  Outcome wait();

 private:
  bool has_ended();

  Folder folder_;
  pid_t process_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

/// Runs to the end.
Outcome run(const std::vector<std::string>& arguments, const std::string& input = "");

void write_file(const std::string& path, const std::string& content);
std::string read_file(const std::string& path);

/// Generates a ListOps task of expressions with 10 < length < 40 and returns its --data.
std::string make_listops(const Folder& folder);

/// Flags of a model and a recipe so small that a step takes milliseconds.
std::vector<std::string> tiny_training(int steps);

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b);

}  // namespace ecoformer::cli_test
