// Tasks by name: which reader and which tokeniser.

#include "data_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <utility>

#include "command.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/image_dataset.h"
#include "ecoformer/data/listops.h"
#include "ecoformer/data/pathfinder.h"
#include "ecoformer/data/text.h"
#include "progress.h"

namespace ecoformer::cli {
namespace {

constexpr const char* kListOps = "listops";
constexpr const char* kBytes = "bytes";
constexpr const char* kPixels = "pixels";
constexpr const char* kMaskedPixels = "masked_pixels";
constexpr const char* kImage = "image";  // Pictures go to the model without a tokeniser.

Task of_sequences(train::TaskInfo info, data::SequenceSplits splits) {
  info.class_names = splits.train.class_names;
  const auto examples = [](data::SequenceDataset& dataset) {
    return std::make_shared<const train::SequenceExamples>(std::move(dataset));
  };
  return {.info = std::move(info),
          .train = examples(splits.train),
          .validation = examples(splits.validation),
          .test = examples(splits.test),
          .validation_is_test = splits.validation_is_test};
}

/// `size`: that of the task, where the options have none.
Task of_images(const DataOptions& options, std::int64_t size, data::ImageSplits splits) {
  const train::ImageView view{.size = options.image_size > 0 ? options.image_size : size,
                              .crop = options.crop == kModelCrop
                                          ? data::EvaluationCrop::kAuthors
                                          : data::evaluation_crop_from_string(options.crop),
                              .strict = options.strict};
  train::TaskInfo info{.class_names = splits.train.class_names,
                       .tokeniser = kImage,
                       .image_size = view.size,
                       .crop = view.crop};
  const auto examples = [&view](data::ImageDataset& dataset) {
    return std::make_shared<const train::ImageExamples>(std::move(dataset), view);
  };
  return {.info = std::move(info),
          .train = examples(splits.train),
          .validation = examples(splits.validation),
          .test = examples(splits.test),
          .validation_is_test = splits.validation_is_test};
}

Task load_listops(const std::string& folder, const DataOptions& options) {
  data::ListOpsReadOptions read;
  if (options.max_length > 0) read.max_length = options.max_length;
  return of_sequences({.tokeniser = kListOps, .max_length = read.max_length},
                      data::read_listops(folder, read));
}

Task load_text(const std::string& folder, const DataOptions& options) {
  data::TextFolderOptions read;
  if (options.max_length > 0) read.max_length = options.max_length;
  return of_sequences({.tokeniser = kBytes, .max_length = read.max_length},
                      data::read_text_folder(folder, read));
}

data::GrayImageSplits read_pathfinder(const std::string& folder) {
  data::GrayImageSplits images = data::read_pathfinder(folder, {});
  if (images.skipped > 0) {
    log_line(fmt::format("note: left out {} empty image files of {}", images.skipped, folder));
  }
  return images;
}

Task load_pathfinder(const std::string& folder, const DataOptions& options) {
  const data::GrayImageSplits images = read_pathfinder(folder);
  const std::int64_t pixels = images.train.pixels[0].numel();
  if (options.max_length > 0 && pixels > options.max_length) {
    throw InputError(fmt::format("--data: expected images of at most {} pixels in {}, got {}",
                                 options.max_length, folder, pixels));
  }
  const auto coding =
      options.mask_black ? data::PixelCoding::kMaskBlack : data::PixelCoding::kEvery;
  return of_sequences(
      {.tokeniser = options.mask_black ? kMaskedPixels : kPixels, .max_length = pixels},
      data::as_sequences(images, coding));
}

Task load_pathfinder_images(const std::string& folder, const DataOptions& options) {
  const data::GrayImageSplits images = read_pathfinder(folder);
  return of_images(options, images.train.pixels.size(1), data::as_images(images));
}

Task load_image_folder(const std::string& folder, const DataOptions& options) {
  constexpr std::int64_t kImageNetSize = 224;
  return of_images(options, kImageNetSize, data::read_image_folder(folder));
}

Task load_cifar10(const std::string& folder, const DataOptions& options) {
  return of_images(options, data::kCifarSize, data::read_cifar10(folder));
}

Task load_cifar100(const std::string& folder, const DataOptions& options) {
  return of_images(options, data::kCifarSize, data::read_cifar100(folder));
}

using Load = Task (*)(const std::string&, const DataOptions&);

/// The tasks that have inputs of a kind, by the name in `--data`.
const std::map<std::string, Load>& loaders(InputKind kind) {
  static const std::map<std::string, Load> kSequences{
      {"listops", load_listops}, {"text", load_text}, {"pathfinder", load_pathfinder}};
  static const std::map<std::string, Load> kImages{{"imagenet", load_image_folder},
                                                   {"cifar10", load_cifar10},
                                                   {"cifar100", load_cifar100},
                                                   {"pathfinder", load_pathfinder_images}};
  return kind == InputKind::kSequences ? kSequences : kImages;
}

}  // namespace

void add_data_option(CLI::App& command, DataOptions& options) {
  command
      .add_option("--data", options.source,
                  "listops:FOLDER with basic_{train,val,test}.tsv; text:FOLDER of "
                  "<split>/<class>/<file> or <class>/<file>; pathfinder:FOLDER with imgs and "
                  "metadata; for vision models imagenet:FOLDER of {train,val}/<class>/<file>, "
                  "cifar10:FOLDER or cifar100:FOLDER with the binary files, or pathfinder:FOLDER")
      ->type_name("TASK:FOLDER")
      ->group("Data");
}

void add_coding_options(CLI::App& command, DataOptions& options) {
  command
      .add_option(
          "--max-length", options.max_length,
          "Longest sequence: longer ListOps rows are refused, longer texts cut; 0 for the task's "
          "own, 2000 and 4000")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24))
      ->group("Data");
  command
      .add_flag("--mask-black", options.mask_black,
                "Mask black pixels like padding, as Long Range Arena does")
      ->group("Data");
}

void add_view_options(CLI::App& command, std::int64_t& image_size, std::string& crop) {
  command
      .add_option("--image-size", image_size,
                  "Side of the square that a vision model sees; 0 for that of the model or the "
                  "task: 224, for CIFAR 32, for Pathfinder that of the images")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 12))
      ->group("Data");
  command
      .add_option(
          "--crop", crop,
          "How pictures are cut for evaluation: authors (256 to 224), timm (248 to 224), or as "
          "the model has it, new ones like the authors")
      ->check(one_of({kModelCrop, "authors", "timm"}))
      ->group("Data");
}

void add_strict_option(CLI::App& command, DataOptions& options) {
  command
      .add_flag("--strict", options.strict,
                "Stop at a picture that cannot be read, instead of leaving it out with a warning "
                "[off]")
      ->group("Data");
}

Task load_task(const DataOptions& options, InputKind kind) {
  const auto colon = options.source.find(':');
  const std::string task = options.source.substr(0, colon);
  const std::string folder = colon == std::string::npos ? "" : options.source.substr(colon + 1);
  const auto load = loaders(kind).find(task);
  if (load == loaders(kind).end() || folder.empty()) {
    std::vector<std::string> expected;
    for (const auto& [name, loader] : loaders(kind)) expected.push_back(name + ":FOLDER");
    throw InputError(
        fmt::format("--data: expected {} for a model of {}, got '{}'", fmt::join(expected, ", "),
                    kind == InputKind::kSequences ? "sequences" : "images", options.source));
  }
  if (options.mask_black && (task != "pathfinder" || kind != InputKind::kSequences)) {
    throw InputError(fmt::format(
        "--mask-black: expected --data pathfinder:FOLDER and a model of sequences, got '{}'",
        options.source));
  }
  return load->second(folder, options);
}

Task load_task_for(const train::TaskInfo& model, DataOptions options, Classes classes) {
  options.max_length = model.max_length;
  options.mask_black = model.tokeniser == kMaskedPixels;
  if (options.image_size == 0) options.image_size = model.image_size;
  if (options.crop == kModelCrop) options.crop = to_string(model.crop);
  Task task = load_task(options, kind_of(model));
  if (task.info.tokeniser != model.tokeniser) {
    throw InputError(fmt::format("--data: expected data for the model's tokeniser '{}', got '{}'",
                                 model.tokeniser, options.source));
  }
  const auto [expected, found] = std::ranges::mismatch(model.class_names, task.info.class_names);
  const bool other = expected != model.class_names.end() || found != task.info.class_names.end();
  if (classes == Classes::kOfModel && other) {
    throw InputError(fmt::format(
        "--data: expected the model's {} classes, got {}; the first that differs is '{}', not '{}'",
        model.class_names.size(), task.info.class_names.size(),
        found == task.info.class_names.end() ? "none" : *found,
        expected == model.class_names.end() ? "none" : *expected));
  }
  return task;
}

InputKind kind_of(const train::TaskInfo& model) {
  return model.tokeniser == kImage ? InputKind::kImages : InputKind::kSequences;
}

std::vector<std::int32_t> tokenise(const train::TaskInfo& model, const std::string& text) {
  std::vector<std::int32_t> tokens;
  if (model.tokeniser == kListOps) {
    // A file or a line may end in a new line, which is no part of the expression.
    tokens = data::parse_listops(text.substr(0, text.find_last_not_of("\r\n") + 1));
  } else if (model.tokeniser == kBytes) {
    tokens = data::encode_bytes(text, model.max_length);
  } else if (model.tokeniser == kPixels) {
    tokens = data::encode_pixels(text, data::PixelCoding::kEvery);
  } else if (model.tokeniser == kMaskedPixels) {
    tokens = data::encode_pixels(text, data::PixelCoding::kMaskBlack);
  } else {
    throw InputError(
        fmt::format("tokenise: expected a tokeniser listops, bytes, pixels or masked_pixels, got "
                    "'{}'",
                    model.tokeniser));
  }
  if (tokens.empty()) throw InputError("tokenise: expected at least one token, got an empty text");
  if (std::ssize(tokens) > model.max_length) {
    throw InputError(fmt::format("tokenise: expected at most {} tokens, got {}", model.max_length,
                                 tokens.size()));
  }
  return tokens;
}

}  // namespace ecoformer::cli
