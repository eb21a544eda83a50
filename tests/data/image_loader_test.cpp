// The loader of pictures: the same batches for any number of workers, what randomness depends on,
// repeats, mixing, and pictures that cannot be read.
#include "ecoformer/data/image_loader.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/expect_error.h"
#include "data/image_fixture.h"
#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

// Picture i is gray of brightness i; its label is i.
ImageDataset make_dataset(std::int64_t pictures, std::int64_t side = 40) {
  ImageDataset dataset{.name = "toy"};
  for (std::int64_t i = 0; i < pictures; ++i) {
    dataset.class_names.push_back(std::to_string(i));
    dataset.labels.push_back(i);
  }
  dataset.image = [side](std::int64_t i) {
    return Image{.height = side,
                 .width = side,
                 .pixels = std::vector<std::uint8_t>(static_cast<std::size_t>(3 * side * side),
                                                     static_cast<std::uint8_t>(i))};
  };
  return dataset;
}

ImageDataset photographs(std::int64_t pictures) {
  ImageDataset dataset = make_dataset(pictures);
  dataset.image = [](std::int64_t) { return pillow("decoded rgb.png"); };
  return dataset;
}

std::vector<Batch> load(const ImageDataset& dataset, const ImageLoaderOptions& options,
                        std::int64_t epoch = 0, std::int64_t first_batch = 0) {
  ImageLoader loader(dataset, options);
  loader.start_epoch(epoch, first_batch);
  std::vector<Batch> batches;
  while (std::optional<Batch> batch = loader.next()) batches.push_back(*std::move(batch));
  return batches;
}

std::vector<std::int64_t> labels_of(const std::vector<Batch>& batches) {
  std::vector<std::int64_t> labels;
  for (const Batch& batch : batches) {
    const auto* const data = batch.labels.const_data_ptr<std::int64_t>();
    labels.insert(labels.end(), data, data + batch.labels.numel());
  }
  return labels;
}

void expect_equal(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(a[i].inputs.equal(b[i].inputs));
    EXPECT_TRUE(a[i].labels.equal(b[i].labels));
    ASSERT_EQ(a[i].targets.defined(), b[i].targets.defined());
    if (a[i].targets.defined()) {
      EXPECT_TRUE(a[i].targets.equal(b[i].targets));
    }
    EXPECT_EQ(a[i].skipped, b[i].skipped);
  }
}

TEST(ImageLoader, EvaluatesInOrder) {
  const std::vector<Batch> batches = load(
      make_dataset(5), {.batch_size = 2, .image_size = 36, .shuffle = false, .augment = false});
  ASSERT_EQ(batches.size(), 3U);
  EXPECT_EQ(labels_of(batches), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(batches[1].inputs.sizes(), (std::vector<std::int64_t>{2, 3, 36, 36}));
  EXPECT_EQ(batches[2].inputs.sizes(), (std::vector<std::int64_t>{1, 3, 36, 36}));
  EXPECT_FALSE(batches[0].mask.defined());
  EXPECT_FALSE(batches[0].targets.defined());
  std::vector<float> expected(3 * 36 * 36);
  normalize({.height = 36, .width = 36, .pixels = std::vector<std::uint8_t>(3 * 36 * 36, 3)},
            expected);
  EXPECT_TRUE(batches[1].inputs[1].flatten().equal(torch::tensor(expected)));
}

TEST(ImageLoader, DeliversTheSameForAnyNumberOfWorkers) {
  ImageDataset dataset = photographs(23);
  dataset.image = [image = dataset.image](std::int64_t i) {
    if (i % 7 == 3) throw InputError(fmt::format("broken {}", i));
    return image(i);
  };
  const auto run = [&](std::int64_t workers, std::int64_t first_batch) {
    return load(dataset,
                {.batch_size = 4,
                 .image_size = 40,
                 .seed = 5,
                 .repeats = 2,
                 .mix = true,
                 .workers = workers},
                /*epoch=*/3, first_batch);
  };
  const std::vector<Batch> expected = run(0, 0);
  for (const std::int64_t workers : {1, 3}) {
    expect_equal(run(workers, 0), expected);
    expect_equal(run(workers, 2), {expected.begin() + 2, expected.end()});
  }
}

TEST(ImageLoader, AugmentationDependsOnSeedEpochIndexAndRepeatAlone) {
  // By (label, repeat): inputs in an epoch, whatever batch and place they fall into.
  const auto views = [](std::int64_t batch_size, std::uint64_t seed, std::int64_t epoch) {
    std::map<std::pair<std::int64_t, std::int64_t>, torch::Tensor> found;
    std::map<std::int64_t, std::int64_t> repeats;
    for (const Batch& batch : load(
             photographs(6),
             {.batch_size = batch_size, .image_size = 40, .seed = seed, .repeats = 2, .workers = 0},
             epoch)) {
      for (std::int64_t i = 0; i < batch.labels.size(0); ++i) {
        const auto label = batch.labels[i].item<std::int64_t>();
        found[{label, repeats[label]++}] = batch.inputs[i];
      }
    }
    return found;
  };
  const auto expected = views(2, 1, 1);
  ASSERT_EQ(expected.size(), 6U);
  const auto same = views(5, 1, 1);
  for (const auto& [key, view] : expected) EXPECT_TRUE(view.equal(same.at(key)));
  for (const auto& other : {views(2, 2, 1), views(2, 1, 2)}) {
    for (const auto& [key, view] : other) {
      if (expected.contains(key)) {
        EXPECT_FALSE(view.equal(expected.at(key)));
      }
    }
  }
  for (const auto& [key, view] : expected) {
    if (key.second == 1) {
      EXPECT_FALSE(view.equal(expected.at({key.first, 0})));
    }
  }
}

TEST(ImageLoader, RepeatsKeepTheLengthOfAnEpoch) {
  const std::vector<Batch> batches =
      load(make_dataset(30), {.batch_size = 8, .image_size = 33, .repeats = 3, .workers = 0});
  const std::vector<std::int64_t> labels = labels_of(batches);
  EXPECT_EQ(labels.size(), 30U);
  EXPECT_EQ(std::set(labels.begin(), labels.end()).size(), 10U);
  for (std::size_t i = 0; i < 30; ++i) EXPECT_EQ(labels[i], labels[i - i % 3]);
}

TEST(ImageLoader, DropsTheRestAndShuffles) {
  const ImageLoaderOptions options{
      .batch_size = 4, .image_size = 33, .augment = false, .drop_last = true, .workers = 0};
  const std::vector<std::int64_t> labels = labels_of(load(make_dataset(30), options));
  EXPECT_EQ(labels.size(), 28U);
  EXPECT_EQ(std::set(labels.begin(), labels.end()).size(), 28U);
  EXPECT_FALSE(std::is_sorted(labels.begin(), labels.end()));
  EXPECT_NE(labels, labels_of(load(make_dataset(30), options, /*epoch=*/1)));
}

TEST(ImageLoader, MixesInputsAndTargetsAlike) {
  // Augmentation cannot tell here: nothing but mixing changes an evaluation view.
  ImageLoaderOptions options{.batch_size = 6,
                             .image_size = 40,
                             .shuffle = false,
                             .augment = false,
                             .mix = true,
                             .workers = 0};
  const std::vector<Batch> mixed = load(make_dataset(60), options);
  options.mix = false;
  const std::vector<Batch> plain = load(make_dataset(60), options);
  for (std::size_t i = 0; i < mixed.size(); ++i) {
    EXPECT_EQ(mixed[i].targets.sizes(), (std::vector<std::int64_t>{6, 60}));
    // 60 roundings of values below 1, of a sum of 1.
    EXPECT_TRUE(mixed[i].targets.sum(1).allclose(torch::ones({6}), 0, 60 * 0x1p-24));
    // The target at a sample's own label holds lambda; as each picture is flat, its mean too is
    // lambda of its own and the rest of its partner's.
    const auto own = mixed[i].targets.gather(1, mixed[i].labels.unsqueeze(1)).squeeze(1);
    const auto lambda = (own - 0.1 / 60) / 0.9;
    const auto from = plain[i].inputs.mean({1, 2, 3});
    const auto expected = lambda * from + (1 - lambda) * from.flip(0);
    // Means of 4800 floats below 3 in blocked sums, and a division by 0.9: a few 1e-6.
    EXPECT_TRUE(mixed[i].inputs.mean({1, 2, 3}).allclose(expected, 0, 2e-5));
  }
}

TEST(ImageLoader, LeavesUnreadablePicturesOut) {
  ImageDataset dataset = make_dataset(7);
  dataset.image = [image = dataset.image](std::int64_t i) {
    if (i == 1 || i == 2 || i == 6) throw InputError(fmt::format("broken {}", i));
    return image(i);
  };
  ImageLoaderOptions options{.batch_size = 3, .image_size = 36, .shuffle = false, .augment = false};
  for (const std::int64_t workers : {0, 2}) {
    options.workers = workers;
    options.strict = false;
    ImageLoader loader(dataset, options);
    loader.start_epoch(0);
    const std::optional<Batch> first = loader.next();
    ASSERT_TRUE(first.has_value());
    EXPECT_EQ(first->inputs.sizes(), (std::vector<std::int64_t>{1, 3, 36, 36}));
    EXPECT_EQ(first->labels.item<std::int64_t>(), 0);
    EXPECT_EQ(first->skipped, (std::vector<std::string>{"broken 1", "broken 2"}));
    const std::optional<Batch> second = loader.next();
    ASSERT_TRUE(second.has_value());
    EXPECT_EQ(second->labels.size(0), 3);
    EXPECT_TRUE(second->skipped.empty());
    expect_input_error([&] { loader.next(); },
                       {"batch 2 of data set 'toy'", "none of 1", "broken 6"});
    EXPECT_FALSE(loader.next().has_value());

    options.strict = true;
    ImageLoader strict(dataset, options);
    strict.start_epoch(0);
    expect_input_error([&] { strict.next(); }, {"broken 1"});
  }
}

TEST(ImageLoader, CifarSizesAreFramedAndNotResized) {
  const ImageLoaderOptions options{.batch_size = 4, .image_size = 32, .workers = 0};
  EXPECT_EQ(load(make_dataset(4, 32), options)[0].inputs.sizes(),
            (std::vector<std::int64_t>{4, 3, 32, 32}));
  ImageLoaderOptions evaluation = options;
  evaluation.augment = false;
  EXPECT_EQ(load(make_dataset(4, 32), evaluation)[0].inputs.size(3), 32);
  // Not skipped: it is the size that is wrong, not the file.
  expect_input_error([&] { load(make_dataset(4, 40), evaluation); }, {"a picture of 32 x 32"});
}

TEST(ImageLoader, RefusesMisuse) {
  const auto refused = [](const ImageDataset& dataset, const ImageLoaderOptions& options,
                          std::initializer_list<std::string> parts) {
    expect_input_error([&] { ImageLoader(dataset, options); }, parts);
  };
  const ImageDataset dataset = make_dataset(4);
  refused(dataset, {.batch_size = 0}, {"batch_size >= 1, got 0"});
  refused(dataset, {.image_size = 0}, {"image_size in [1, 4096], got 0"});
  refused(dataset, {.image_size = 5000}, {"image_size"});
  refused(dataset, {.repeats = 0}, {"repeats >= 1"});
  refused(dataset, {.label_smoothing = 1}, {"label_smoothing in [0, 1), got 1"});
  refused(dataset, {.workers = 257}, {"workers in [0, 256], got 257"});
  refused(dataset, {.batch_size = 5, .drop_last = true}, {"at least 5 examples in data set 'toy'"});
  refused({.name = "void"}, {}, {"at least 1 examples in data set 'void', got 0"});
  ImageDataset wrong = dataset;
  wrong.labels[2] = 4;
  refused(wrong, {}, {"a label in [0, 4) for picture 2 of data set 'toy', got 4"});
}

}  // namespace
}  // namespace ecoformer::data
