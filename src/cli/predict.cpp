// `predict`: classes for texts, files and pictures, or logits for stored inputs.

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
#include "ecoformer/data/image.h"
#include "ecoformer/io/safetensors.h"
#include "hash_precision.h"
#include "open_model.h"
#include "report.h"

namespace ecoformer::cli {
namespace {

/// Stored inputs that go through the model at a time.
constexpr std::int64_t kBatch = 32;

struct Options {
  std::string checkpoint;
  std::string architecture;
  std::vector<std::string> texts;
  std::vector<std::string> files;
  std::int64_t top = 1;
  std::int64_t image_size = 0;
  std::string crop = kModelCrop;
  std::string dtype = "float32";
  kernels::Precision hash_precision = kernels::Precision::kFloat32;
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

/// Adds the likeliest classes of one input.
void add_classes(Report& report, const std::string& name, const torch::Tensor& logits,
                 std::int64_t top, const std::vector<std::string>& class_names) {
  const auto [probabilities, classes] =
      torch::softmax(logits, 0).topk(std::min(top, logits.size(0)));
  for (std::int64_t rank = 0; rank < classes.size(0); ++rank) {
    const auto index = classes[rank].item<std::int64_t>();
    report.add({{"input", name},
                {"rank", rank + 1},
                {"class", class_names.empty() ? std::to_string(index)
                                              : class_names.at(static_cast<std::size_t>(index))},
                {"probability", probabilities[rank].item<double>()}});
  }
}

void predict_texts(const Options& options, OpenedModel& opened) {
  const train::TaskInfo& task = *opened.task;
  const std::vector<Text> texts = read_texts(options);
  std::vector<torch::Tensor> sequences;
  for (const Text& text : texts) {
    try {
      const std::vector<std::int32_t> tokens = tokenise(task, text.content);
      sequences.push_back(torch::tensor(tokens).to(torch::kLong).unsqueeze(0));
    } catch (const InputError& error) {
      throw InputError(fmt::format("'{}': {}", text.name, error.what()));
    }
  }
  Report report;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const torch::Tensor logits = opened.model->forward(sequences[i], sequences[i].ne(0))[0];
    add_classes(report, texts[i].name, logits, options.top, task.class_names);
  }
  report.print(options.format);
}

void predict_pictures(const Options& options, OpenedModel& opened) {
  std::vector<std::string> paths = options.texts;
  paths.insert(paths.end(), options.files.begin(), options.files.end());
  if (paths.empty()) throw InputError("predict: expected pictures for this model, got none");
  // Files of others do not say what their classes are called.
  const train::TaskInfo task = opened.task.value_or(train::TaskInfo{});
  Report report;
  for (const std::string& path : paths) {
    const data::Image view =
        view_of(opened, data::read_image(path), options.image_size, options.crop);
    add_classes(report, path, opened.model->forward(input_of(view), {})[0], options.top,
                task.class_names);
  }
  report.print(options.format);
}

/// Runs forward(first, last) over batches of `count` stored inputs and writes their logits.
template <typename Forward>
void write_logits(const Options& options, std::int64_t count, std::int64_t classes,
                  const Forward& forward) {
  std::vector<torch::Tensor> logits;
  for (std::int64_t first = 0; first < count; first += kBatch) {
    logits.push_back(forward(first, std::min(first + kBatch, count)));
  }
  io::TensorFile result{.tensors = {}, .metadata = {}};
  result.tensors["logits"] = logits.empty() ? torch::empty({0, classes}) : torch::cat(logits);
  io::write_safetensors(options.output, result);
}

/// The tensor `input` of a file, finite and of the given shape.
torch::Tensor stored_input(const io::TensorFile& file, const std::vector<std::int64_t>& shape) {
  torch::Tensor input = io::take(file, "input", std::nullopt, shape);
  if (input.is_floating_point()) check_finite(file, "input", input);
  return input;
}

void predict_images(const Options& options, models::Classifier& model) {
  const io::TensorFile file = io::read_safetensors(options.input);
  stored_input(file, {-1, -1, -1, -1});
  const torch::Tensor images = io::take(file, "input", torch::kFloat32);
  write_logits(options, images.size(0), model.classes(),
               [&](std::int64_t first, std::int64_t last) {
                 return model.forward(images.slice(0, first, last), {});
               });
}

void predict_tensors(const Options& options, models::Classifier& model) {
  const io::TensorFile file = io::read_safetensors(options.input);
  stored_input(file, {-1, -1});
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
  write_logits(options, tokens.size(0), model.classes(),
               [&](std::int64_t first, std::int64_t last) {
                 return model.forward(tokens.slice(0, first, last), mask.slice(0, first, last));
               });
}

void run(const Options& options) {
  const bool stored = !options.input.empty();
  if (stored && (!options.texts.empty() || !options.files.empty())) {
    throw InputError("--input: expected either stored inputs or texts, got both");
  }
  if (stored) check_writable_file("--output", options.output);
  const torch::NoGradGuard no_gradients;
  OpenedModel opened = open_model(options.checkpoint, options.architecture);
  opened.model->eval();
  set_dtype(*opened.model, options.dtype);
  set_hash_precision(*opened.model, options.hash_precision);
  const bool images = !opened.task || kind_of(*opened.task) == InputKind::kImages;
  if (images) {
    return stored ? predict_images(options, *opened.model) : predict_pictures(options, opened);
  }
  return stored ? predict_tensors(options, *opened.model) : predict_texts(options, opened);
}

}  // namespace

void add_predict(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("predict",
                                         "Classes of texts, pictures, files or lines on stdin; or "
                                         "logits of the stored tensor `input`");
  command
      ->add_option("--checkpoint", options->checkpoint,
                   "Trained model, or a vision model's weights: safetensors or .pth of the authors "
                   "or timm")
      ->required();
  add_architecture_option(*command, options->architecture);
  add_dtype_option(*command, options->dtype);
  add_hash_precision_option(*command, options->hash_precision);
  command->add_option("text", options->texts,
                      "Texts to classify, or pictures (JPEG, PNG) for a vision model; with no text "
                      "and no file, lines of stdin");
  command->add_option("--file", options->files, "Files to classify");
  command->add_option("--top", options->top, "How many of the likeliest classes to print")
      ->check(CLI::PositiveNumber);
  add_view_options(*command, options->image_size, options->crop);
  CLI::Option* input = command->add_option("--input", options->input,
                                           "safetensors file with `input`: int64 token ids [B, N], "
                                           "0 for padding, and maybe `mask`, bool; or normalised "
                                           "float32 images [B, 3, H, W]");
  command->add_option("--output", options->output, "safetensors file to write `logits` to")
      ->needs(input);
  input->needs("--output");
  add_format_option(*command, options->format);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
