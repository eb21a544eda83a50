// CIFAR's binary files: records of a label, or a coarse and a fine one, and three planes of 32
// x 32.
#include <fmt/format.h>

#include <memory>
#include <sstream>
#include <system_error>
#include <utility>

#include "data/files.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/image_dataset.h"
#include "ecoformer/data/image_transforms.h"

namespace ecoformer::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOperation = "read CIFAR";
constexpr std::int64_t kPlane = kCifarSize * kCifarSize;
constexpr std::int64_t kMostRecords = 1'000'000;

struct Format {
  const char* name;
  std::int64_t classes;
  std::int64_t label_bytes;  // The last of them is the label.
  const char* class_names;
  std::vector<const char*> train;
  const char* test;

  std::int64_t record() const { return label_bytes + 3 * kPlane; }
};

std::vector<std::string> read_class_names(const fs::path& folder, const Format& format) {
  const fs::path path = folder / format.class_names;
  std::vector<std::string> names;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    for (std::int64_t i = 0; i < format.classes; ++i) names.push_back(std::to_string(i));
    return names;
  }
  std::istringstream lines(read_file(path, /*max_bytes=*/1 << 16, kOperation));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) names.push_back(std::move(line));
  }
  if (std::ssize(names) != format.classes) {
    throw InputError(fmt::format("{}: expected {} class names in {}, got {}", kOperation,
                                 format.classes, path.string(), names.size()));
  }
  return names;
}

void append_records(const fs::path& path, const Format& format, ImageDataset& dataset,
                    std::string& records) {
  const std::int64_t record = format.record();
  // One byte more than allowed, so that a longer file shows.
  const std::string bytes =
      read_file(path, static_cast<std::uintmax_t>(kMostRecords * record + 1), kOperation);
  if (bytes.empty() || std::ssize(bytes) % record != 0) {
    throw InputError(
        fmt::format("{}: expected 1 to {} records of {} bytes in {}, got {} bytes\n"
                    "hint: the file is of another data set, or was not copied whole",
                    kOperation, kMostRecords, record, path.string(), bytes.size()));
  }
  for (std::int64_t begin = 0; begin < std::ssize(bytes); begin += record) {
    const auto label =
        static_cast<unsigned char>(bytes[static_cast<std::size_t>(begin + format.label_bytes - 1)]);
    if (label >= format.classes) {
      throw InputError(fmt::format("{}: expected labels in [0, {}) in {}, got {} in record {}",
                                   kOperation, format.classes, path.string(), label,
                                   begin / record));
    }
    dataset.labels.push_back(label);
  }
  records += bytes;
}

ImageDataset read_files(const fs::path& folder, const Format& format,
                        const std::vector<std::string>& class_names,
                        const std::vector<const char*>& files) {
  ImageDataset dataset{.name = format.name, .class_names = class_names};
  std::string records;
  for (const char* const file : files) append_records(folder / file, format, dataset, records);
  dataset.image = [records = std::make_shared<const std::string>(std::move(records)),
                   record = format.record(), label_bytes = format.label_bytes](std::int64_t index) {
    Image image{.height = kCifarSize, .width = kCifarSize};
    image.pixels.reserve(3 * kPlane);
    const char* const planes = records->data() + index * record + label_bytes;
    for (std::int64_t i = 0; i < kPlane; ++i) {
      for (std::int64_t c = 0; c < 3; ++c) {
        image.pixels.push_back(static_cast<std::uint8_t>(planes[c * kPlane + i]));
      }
    }
    return image;
  };
  return dataset;
}

ImageSplits read_splits(const fs::path& folder, const Format& format) {
  const std::vector<std::string> class_names = read_class_names(folder, format);
  ImageSplits splits{.train = read_files(folder, format, class_names, format.train),
                     .test = read_files(folder, format, class_names, {format.test}),
                     .validation_is_test = true};
  splits.validation = splits.test;
  return splits;
}

}  // namespace

ImageSplits read_cifar10(const fs::path& folder) {
  return read_splits(folder, {.name = "cifar10",
                              .classes = 10,
                              .label_bytes = 1,
                              .class_names = "batches.meta.txt",
                              .train = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                        "data_batch_4.bin", "data_batch_5.bin"},
                              .test = "test_batch.bin"});
}

ImageSplits read_cifar100(const fs::path& folder) {
  return read_splits(folder, {.name = "cifar100",
                              .classes = 100,
                              .label_bytes = 2,
                              .class_names = "fine_label_names.txt",
                              .train = {"train.bin"},
                              .test = "test.bin"});
}

}  // namespace ecoformer::data
