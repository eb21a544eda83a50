// ImageNet's layout of class folders, listed at once and decoded one picture at a time.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <system_error>
#include <utility>

#include "data/files.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/image_dataset.h"

namespace ecoformer::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOperation = "read_image_folder";
constexpr std::ptrdiff_t kMostNamed = 5;

std::vector<std::string> classes_of(const fs::path& split) {
  std::vector<std::string> classes = list_folder(split, Entries::kFolders, kOperation);
  if (classes.empty()) {
    throw InputError(
        fmt::format("{}: expected class folders in {}, got none", kOperation, split.string()));
  }
  return classes;
}

void require_same_classes(const fs::path& train, const std::vector<std::string>& expected,
                          const fs::path& split) {
  const std::vector<std::string> found = classes_of(split);
  if (found == expected) return;
  const auto only_in = [](const auto& some, const auto& others) {
    std::vector<std::string> names;
    std::set_difference(some.begin(), some.end(), others.begin(), others.end(),
                        std::back_inserter(names));
    const auto named = std::min(std::ssize(names), kMostNamed);
    return fmt::format("{} of them [{}{}]", names.size(),
                       fmt::join(names.begin(), names.begin() + named, ", "),
                       std::ssize(names) > named ? ", ..." : "");
  };
  throw InputError(fmt::format(
      "{}: expected the {} classes of {} in {}, got {}\nhint: only the former has {}, only the "
      "latter {}",
      kOperation, expected.size(), train.string(), split.string(), found.size(),
      only_in(expected, found), only_in(found, expected)));
}

ImageDataset read_split(const fs::path& split, const std::vector<std::string>& classes) {
  struct Files {
    fs::path split;
    std::vector<std::string> classes;
    std::vector<std::int64_t> labels;
    std::vector<std::string> names;  // Not paths: there are a million.
  };
  auto files = std::make_shared<Files>();
  ImageDataset dataset{.name = split.string(), .class_names = classes};
  for (std::size_t label = 0; label < classes.size(); ++label) {
    const fs::path folder = split / classes[label];
    std::vector<std::string> names = list_folder(folder, Entries::kFiles, kOperation);
    if (names.empty()) {
      throw InputError(fmt::format("{}: expected files in the class folder {}, got none",
                                   kOperation, folder.string()));
    }
    dataset.labels.insert(dataset.labels.end(), names.size(), static_cast<std::int64_t>(label));
    std::move(names.begin(), names.end(), std::back_inserter(files->names));
  }
  files->split = split;
  files->classes = classes;
  files->labels = dataset.labels;
  dataset.image = [files = std::shared_ptr<const Files>(std::move(files))](std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    return read_image(files->split / files->classes[static_cast<std::size_t>(files->labels[i])] /
                      files->names[i]);
  };
  return dataset;
}

}  // namespace

ImageSplits read_image_folder(const fs::path& root) {
  const fs::path train = root / "train";
  const std::vector<std::string> classes = classes_of(train);
  const auto held_out = [&](const char* name) {
    require_same_classes(train, classes, root / name);
    return read_split(root / name, classes);
  };
  ImageSplits splits{.train = read_split(train, classes), .validation = held_out("val")};
  std::error_code ignored;
  splits.validation_is_test = !fs::is_directory(root / "test", ignored);
  splits.test = splits.validation_is_test ? splits.validation : held_out("test");
  return splits;
}

}  // namespace ecoformer::data
