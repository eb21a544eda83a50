// Class folders and CIFAR files: order, labels, pixels, and what is refused.
#include "ecoformer/data/image_dataset.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "data/expect_error.h"
#include "data/image_fixture.h"
#include "data/temp_folder.h"

namespace ecoformer::data {
namespace {

class ImageFolder : public ::testing::Test {
 protected:
  void put(const std::string& name) const {
    folder_.write(name, read_all(fixture_file("rgb.png")));
  }

  void refused(std::initializer_list<std::string> parts) const {
    expect_input_error([this] { read_image_folder(folder_.path()); }, parts);
  }

  TempFolder folder_;
};

TEST_F(ImageFolder, NumbersClassesAndFilesInByteOrder) {
  for (const char* name : {"train/b/2.png", "train/b/10.png", "train/Z/x.png", "train/a/1.PNG",
                           "val/a/v.png", "val/b/v.png", "val/Z/v.png"}) {
    put(name);
  }
  folder_.write("train/b/10.png", read_all(fixture_file("gray.jpg")));
  folder_.write("train/b/.hidden", "");
  folder_.write("train/readme.txt", "");
  const ImageSplits splits = read_image_folder(folder_.path());
  EXPECT_EQ(splits.train.class_names, (std::vector<std::string>{"Z", "a", "b"}));
  EXPECT_EQ(splits.train.labels, (std::vector<std::int64_t>{0, 1, 2, 2}));
  EXPECT_EQ(largest_difference(splits.train.image(2), pillow("decoded gray.jpg")), 0);
  EXPECT_EQ(largest_difference(splits.train.image(3), pillow("decoded rgb.png")), 0);
  EXPECT_EQ(splits.validation.labels, (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_TRUE(splits.validation_is_test);
  EXPECT_EQ(splits.test.labels, splits.validation.labels);
  EXPECT_EQ(splits.test.image(2).pixels.size(), 21U * 28 * 3);
}

TEST_F(ImageFolder, ATestFolderIsTheTestSet) {
  for (const char* name : {"train/a/1.png", "val/a/1.png", "test/a/1.png", "test/a/2.png"}) {
    put(name);
  }
  const ImageSplits splits = read_image_folder(folder_.path());
  EXPECT_FALSE(splits.validation_is_test);
  EXPECT_EQ(splits.validation.labels.size(), 1U);
  EXPECT_EQ(splits.test.labels.size(), 2U);
}

TEST_F(ImageFolder, ABrokenFileIsAnErrorOfItsOwn) {
  put("train/a/1.png");
  put("val/a/1.png");
  folder_.write("train/a/0.jpg", "no picture");
  const ImageSplits splits = read_image_folder(folder_.path());
  expect_input_error([&] { splits.train.image(0); }, {"train/a/0.jpg", "a JPEG or PNG file"});
  EXPECT_EQ(splits.train.image(1).width, 28);
}

TEST_F(ImageFolder, RefusesOtherLayouts) {
  refused({"expected a readable folder", "train"});
  std::filesystem::create_directories(folder_.path() / "train");
  refused({"expected class folders", "train", "got none"});
  put("train/a/1.png");
  refused({"expected a readable folder", "val"});
  put("val/a/1.png");
  put("val/b/1.png");
  put("val/c/1.png");
  refused({"expected the 1 classes of",
           "got 3\nhint: only the former has 0 of them [], only the "
           "latter 2 of them [b, c]"});
  put("train/b/1.png");
  std::filesystem::create_directories(folder_.path() / "train/c");
  refused({"expected files in the class folder", "train/c", "got none"});
}

TEST_F(ImageFolder, NamesAFewOfManyClasses) {
  for (char name = 'a'; name <= 'h'; ++name) put(std::string("train/") + name + "/1.png");
  put("val/x/1.png");
  refused({"only the former has 8 of them [a, b, c, d, e, ...], only the latter 1 of them [x]"});
}

constexpr std::size_t kPixels = 3072;

// Planes that tell the channel and the place: value = channel + pixel index, modulo 256.
std::string record(const std::string& labels) {
  std::string bytes = labels;
  for (std::size_t i = 0; i < kPixels; ++i) bytes += static_cast<char>(i / 1024 + i % 1024);
  return bytes;
}

class Cifar : public ::testing::Test {
 protected:
  Cifar() {
    for (int i = 1; i <= 5; ++i) {
      folder_.write("data_batch_" + std::to_string(i) + ".bin",
                    record({static_cast<char>(i)}) + record({static_cast<char>(i + 1)}));
    }
    folder_.write("test_batch.bin", record("\x09"));
    folder_.write("train.bin", record({19, 99}) + record({3, 0}));
    folder_.write("test.bin", record({0, 42}));
  }

  TempFolder folder_;
};

TEST_F(Cifar, ReadsTheFilesInOrder) {
  const ImageSplits splits = read_cifar10(folder_.path());
  EXPECT_EQ(splits.train.labels, (std::vector<std::int64_t>{1, 2, 2, 3, 3, 4, 4, 5, 5, 6}));
  EXPECT_EQ(splits.test.labels, (std::vector<std::int64_t>{9}));
  EXPECT_EQ(splits.validation.labels, splits.test.labels);
  EXPECT_TRUE(splits.validation_is_test);
  EXPECT_EQ(splits.train.class_names.size(), 10U);
  EXPECT_EQ(splits.train.class_names[9], "9");
  const Image image = splits.train.image(9);
  ASSERT_EQ(image.pixels.size(), kPixels);
  EXPECT_EQ(image.height, 32);
  EXPECT_EQ(image.width, 32);
  for (std::size_t i = 0; i < kPixels; ++i) {
    EXPECT_EQ(image.pixels[i], static_cast<std::uint8_t>(i / 3 + i % 3));
  }
}

TEST_F(Cifar, Cifar100UsesTheFineLabels) {
  const ImageSplits splits = read_cifar100(folder_.path());
  EXPECT_EQ(splits.train.labels, (std::vector<std::int64_t>{99, 0}));
  EXPECT_EQ(splits.test.labels, (std::vector<std::int64_t>{42}));
  EXPECT_EQ(splits.train.class_names.size(), 100U);
  EXPECT_EQ(splits.test.image(0).pixels[1], 1);  // Pixel 0's green: labels are not pixels.
}

TEST_F(Cifar, ReadsClassNames) {
  folder_.write("batches.meta.txt", "airplane\r\nb\nc\nd\ne\nf\ng\nh\ni\ntruck\n\n");
  const ImageSplits splits = read_cifar10(folder_.path());
  EXPECT_EQ(splits.train.class_names.front(), "airplane");
  EXPECT_EQ(splits.test.class_names.back(), "truck");
  folder_.write("batches.meta.txt", "airplane\n");
  expect_input_error([this] { read_cifar10(folder_.path()); },
                     {"expected 10 class names in", "batches.meta.txt", "got 1"});
}

TEST_F(Cifar, RefusesWrongFiles) {
  const auto refused = [this](std::initializer_list<std::string> parts) {
    expect_input_error([this] { read_cifar10(folder_.path()); }, parts);
  };
  const std::string good = read_all(folder_.path() / "data_batch_3.bin");
  folder_.write("data_batch_3.bin", good.substr(1));
  refused({"records of 3073 bytes in", "data_batch_3.bin", "got 6145 bytes"});
  folder_.write("data_batch_3.bin", "");
  refused({"data_batch_3.bin", "got 0 bytes"});
  folder_.write("data_batch_3.bin", record({9}) + record({10}));
  refused({"labels in [0, 10) in", "data_batch_3.bin", "got 10 in record 1"});
  std::filesystem::remove(folder_.path() / "data_batch_3.bin");
  refused({"expected a readable file", "data_batch_3.bin"});
  // A hundred classes' file under the name of ten's.
  folder_.write("data_batch_3.bin", record({0, 0}));
  refused({"records of 3073 bytes", "got 3074 bytes"});
  folder_.write("test.bin", record({0, 100}));
  expect_input_error([this] { read_cifar100(folder_.path()); },
                     {"labels in [0, 100)", "test.bin", "got 100 in record 0"});
}

}  // namespace
}  // namespace ecoformer::data
