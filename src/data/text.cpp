// Reads folders of files as byte sequences.
#include "ecoformer/data/text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <utility>

#include "data/files.h"
#include "data/random.h"
#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOperation = "read_text_folder";
constexpr const char* kUnlabelled = "unsup";

std::vector<std::int32_t> read_text(const fs::path& path, std::int64_t max_length) {
  const std::string bytes = read_file(path, static_cast<std::uintmax_t>(max_length), kOperation);
  if (bytes.empty()) {
    throw InputError(
        fmt::format("read_text_folder: expected text in {}, got an empty file\n"
                    "hint: remove the file",
                    path.string()));
  }
  return encode_bytes(bytes, max_length);
}

// The examples of one class, in the order of the files' names.
std::vector<Example> read_class(const fs::path& folder, std::int64_t label,
                                std::int64_t max_length) {
  std::vector<Example> examples;
  for (const std::string& name : list_folder(folder, Entries::kFiles, kOperation)) {
    examples.push_back({.tokens = read_text(folder / name, max_length), .label = label});
  }
  if (examples.empty()) {
    throw InputError(fmt::format(
        "read_text_folder: expected files in the class folder {}, got none", folder.string()));
  }
  return examples;
}

SequenceDataset empty_dataset(const fs::path& root, std::vector<std::string> class_names) {
  return {.name = fs::weakly_canonical(root).filename().string(),
          .class_names = std::move(class_names),
          .vocabulary = kByteVocabulary};
}

SequenceSplits empty_splits(const fs::path& root, const std::vector<std::string>& class_names) {
  const SequenceDataset dataset = empty_dataset(root, class_names);
  return {.train = dataset, .validation = dataset, .test = dataset};
}

// Lets the only held-out set serve as both.
void share_held_out(SequenceSplits& splits) {
  if (splits.validation.examples.empty()) {
    splits.validation = splits.test;
    splits.validation_is_test = true;
  } else if (splits.test.examples.empty()) {
    splits.test = splits.validation;
    splits.validation_is_test = true;
  }
}

SequenceSplits read_split_folders(const fs::path& root, const std::vector<std::string>& folders,
                                  const TextFolderOptions& options) {
  for (const std::string& name : folders) {
    if (name != "train" && name != "val" && name != "test") {
      throw InputError(
          fmt::format("read_text_folder: expected the folders train, val and test in {}, got {}",
                      root.string(), name));
    }
  }
  if (folders.size() < 2) {
    throw InputError(
        fmt::format("read_text_folder: expected a folder test or val beside {}, got none\n"
                    "hint: give {} itself as the root to have it split",
                    (root / "train").string(), (root / "train").string()));
  }
  std::vector<std::string> classes = list_folder(root / "train", Entries::kFolders, kOperation);
  for (const std::string& split : folders) {
    if (split == "train") continue;
    const std::vector<std::string> held_out =
        list_folder(root / split, Entries::kFolders, kOperation);
    if (!std::binary_search(held_out.begin(), held_out.end(), kUnlabelled)) {
      std::erase(classes, kUnlabelled);
    }
    if (held_out != classes) {
      throw InputError(
          fmt::format("read_text_folder: expected the classes of {} in {}, [{}], got [{}]",
                      (root / "train").string(), (root / split).string(), fmt::join(classes, ", "),
                      fmt::join(held_out, ", ")));
    }
  }
  if (classes.empty()) {
    throw InputError(fmt::format("read_text_folder: expected class folders in {}, got none",
                                 (root / "train").string()));
  }
  SequenceSplits splits = empty_splits(root, classes);
  const std::pair<const char*, SequenceDataset*> sets[] = {
      {"train", &splits.train}, {"val", &splits.validation}, {"test", &splits.test}};
  for (const auto& [split, dataset] : sets) {
    if (!std::binary_search(folders.begin(), folders.end(), split)) continue;
    for (std::size_t label = 0; label < classes.size(); ++label) {
      std::vector<Example> examples = read_class(
          root / split / classes[label], static_cast<std::int64_t>(label), options.max_length);
      std::move(examples.begin(), examples.end(), std::back_inserter(dataset->examples));
    }
  }
  share_held_out(splits);
  return splits;
}

SequenceSplits read_class_folders(const fs::path& root, const std::vector<std::string>& classes,
                                  const TextFolderOptions& options) {
  SequenceSplits splits = empty_splits(root, classes);
  Engine engine(options.seed);
  for (std::size_t label = 0; label < classes.size(); ++label) {
    const fs::path folder = root / classes[label];
    std::vector<Example> examples =
        read_class(folder, static_cast<std::int64_t>(label), options.max_length);
    const auto share = [&](double fraction) {
      return std::llround(fraction * static_cast<double>(examples.size()));
    };
    const std::int64_t validation = share(options.validation_fraction);
    const std::int64_t test = share(options.test_fraction);
    if ((validation == 0 && options.validation_fraction > 0) ||
        (test == 0 && options.test_fraction > 0) || validation + test >= std::ssize(examples)) {
      throw InputError(fmt::format(
          "read_text_folder: expected enough files in {} for shares of {} validation and {} test, "
          "got {}\nhint: add files, or change the shares",
          folder.string(), options.validation_fraction, options.test_fraction, examples.size()));
    }
    shuffle(examples, engine);
    auto take = [begin = examples.begin()](SequenceDataset& dataset, std::int64_t count) mutable {
      std::move(begin, begin + count, std::back_inserter(dataset.examples));
      begin += count;
    };
    const std::int64_t train = std::ssize(examples) - validation - test;
    take(splits.validation, validation);
    take(splits.test, test);
    take(splits.train, train);
  }
  share_held_out(splits);
  return splits;
}

}  // namespace

std::vector<std::int32_t> encode_bytes(std::string_view text, std::int64_t max_length) {
  std::vector<std::int32_t> tokens;
  text = text.substr(0, static_cast<std::size_t>(max_length));
  tokens.reserve(text.size());
  for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte) + 1);
  return tokens;
}

SequenceSplits read_text_folder(const fs::path& root, const TextFolderOptions& options) {
  if (options.max_length < 1) {
    throw InputError(
        fmt::format("read_text_folder: expected max_length >= 1, got {}", options.max_length));
  }
  const std::vector<std::string> folders = list_folder(root, Entries::kFolders, kOperation);
  if (folders.empty()) {
    throw InputError(
        fmt::format("read_text_folder: expected class folders in {}, got none", root.string()));
  }
  if (std::binary_search(folders.begin(), folders.end(), "train")) {
    return read_split_folders(root, folders, options);
  }
  const double held_out = options.validation_fraction + options.test_fraction;
  if (!(options.validation_fraction >= 0 && options.test_fraction >= 0 && held_out > 0 &&
        held_out < 1)) {
    throw InputError(
        fmt::format("read_text_folder: expected shares >= 0 with a sum in (0, 1), got {} "
                    "validation and {} test",
                    options.validation_fraction, options.test_fraction));
  }
  return read_class_folders(root, folders, options);
}

}  // namespace ecoformer::data
