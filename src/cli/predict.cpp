// `predict`: classes for texts and files, or logits for stored token ids.

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "command.h"
#include "data_options.h"
#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors.h"
#include "ecoformer/train/checkpoint.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

/// Sequences of stored token ids that go through the model at a time.
constexpr std::int64_t kBatch = 32;

struct Options {
  std::string checkpoint;
  std::vector<std::string> texts;
  std::vector<std::string> files;
  std::int64_t top = 1;
  std::string input;
  std::string output;
  Format format = Format::kTable;
};

/// A text and the name it has in reports and messages.
struct Text {
  std::string name;
  std::string content;
};

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (!stream || content.empty()) {
    throw InputError(
        fmt::format("--file: expected a readable file that is not empty, got '{}'", path));
  }
  return content;
}

/// The texts of the command line and of files; where there are none, the lines of stdin.
std::vector<Text> read_texts(const Options& options) {
  std::vector<Text> texts;
  for (const std::string& text : options.texts) texts.push_back({text, text});
  for (const std::string& path : options.files) texts.push_back({path, read_file(path)});
  if (!texts.empty()) return texts;
  for (std::string line; std::getline(std::cin, line);) {
    texts.push_back({fmt::format("line {}", texts.size() + 1), line});
  }
  if (texts.empty())
    throw InputError("predict: expected texts, --file or lines on stdin, got none");
  return texts;
}

void predict_texts(const Options& options, train::Checkpoint& checkpoint) {
  const std::vector<Text> texts = read_texts(options);
  std::vector<torch::Tensor> sequences;
  for (const Text& text : texts) {
    try {
      const std::vector<std::int32_t> tokens = tokenise(checkpoint.task, text.content);
      sequences.push_back(torch::tensor(tokens).to(torch::kLong).unsqueeze(0));
    } catch (const InputError& error) {
      throw InputError(fmt::format("'{}': {}", text.name, error.what()));
    }
  }
  Report report;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const torch::Tensor logits = checkpoint.model->forward(sequences[i], sequences[i].ne(0))[0];
    const std::int64_t top = std::min(options.top, logits.size(0));
    const auto [probabilities, classes] = torch::softmax(logits, 0).topk(top);
    for (std::int64_t rank = 0; rank < top; ++rank) {
      const auto index = static_cast<std::size_t>(classes[rank].item<std::int64_t>());
      report.add({{"input", texts[i].name},
                  {"rank", rank + 1},
                  {"class", checkpoint.task.class_names.at(index)},
                  {"probability", probabilities[rank].item<double>()}});
    }
  }
  report.print(options.format);
}

void predict_tensors(const Options& options, train::Checkpoint& checkpoint) {
  const io::TensorFile file = io::read_safetensors(options.input);
  const torch::Tensor stored = io::take(file, "input", std::nullopt, {{-1, -1}});
  if (stored.is_floating_point()) check_finite(file, "input", stored);
  const torch::Tensor tokens = io::take(file, "input", torch::kLong, {{-1, -1}});
  torch::Tensor mask = tokens.ne(0);
  if (file.tensors.count("mask") != 0) {
    mask = io::take(file, "mask", torch::kBool, {{tokens.size(0), tokens.size(1)}});
  }
  const torch::Tensor empty = mask.any(1).logical_not();
  if (empty.any().item<bool>()) {
    throw InputError(
        fmt::format("{}: expected a real token in every sequence, got only padding in sequence {}",
                    file.source, empty.nonzero()[0].item<std::int64_t>()));
  }
  std::vector<torch::Tensor> logits;
  for (std::int64_t first = 0; first < tokens.size(0); first += kBatch) {
    const std::int64_t last = std::min(first + kBatch, tokens.size(0));
    logits.push_back(
        checkpoint.model->forward(tokens.slice(0, first, last), mask.slice(0, first, last)));
  }
  io::TensorFile result{.tensors = {}, .metadata = {}};
  result.tensors["logits"] =
      logits.empty() ? torch::empty({0, checkpoint.model->config().classes}) : torch::cat(logits);
  io::write_safetensors(options.output, result);
}

void run(const Options& options) {
  const bool stored = !options.input.empty();
  if (stored && (!options.texts.empty() || !options.files.empty())) {
    throw InputError("--input: expected either stored token ids or texts, got both");
  }
  if (stored) check_writable_file("--output", options.output);
  train::Checkpoint checkpoint = train::load_model(options.checkpoint);
  const torch::NoGradGuard no_gradients;
  checkpoint.model->eval();
  if (stored) {
    predict_tensors(options, checkpoint);
  } else {
    predict_texts(options, checkpoint);
  }
}

}  // namespace

void add_predict(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "predict",
      "Classes of texts, files or lines on stdin; or logits of the stored tensor `input`");
  command->add_option("--checkpoint", options->checkpoint, "Trained model")->required();
  command->add_option("text", options->texts,
                      "Texts to classify; with no text and no file, lines of stdin");
  command->add_option("--file", options->files, "Files to classify");
  command->add_option("--top", options->top, "How many of the likeliest classes to print")
      ->check(CLI::PositiveNumber);
  CLI::Option* input = command->add_option("--input", options->input,
                                           "safetensors file with `input`, int64 token ids [B, N], "
                                           "0 for padding, and maybe `mask`, bool");
  command->add_option("--output", options->output, "safetensors file to write `logits` to")
      ->needs(input);
  input->needs("--output");
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
