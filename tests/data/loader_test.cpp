// The loader: the same batches for any number of workers, resume, padding, bucketing, errors.
#include "ecoformer/data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "data/expect_error.h"
#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

// Example i starts with token i + 1, so that batches tell which examples they hold. Lengths cycle
// through 1..23 out of step with the index.
SequenceDataset make_dataset(std::int64_t size) {
  SequenceDataset dataset{.name = "toy", .class_names = {"a", "b", "c"}, .vocabulary = size + 2};
  for (std::int64_t i = 0; i < size; ++i) {
    const auto length = static_cast<std::size_t>(1 + (i * 7) % 23);
    std::vector<std::int32_t> tokens(length, static_cast<std::int32_t>(size + 1));
    tokens[0] = static_cast<std::int32_t>(i + 1);
    dataset.examples.push_back({tokens, i % 3});
  }
  return dataset;
}

std::vector<Batch> remaining(SequenceLoader& loader) {
  std::vector<Batch> batches;
  while (std::optional<Batch> batch = loader.next()) batches.push_back(*std::move(batch));
  return batches;
}

std::vector<std::int64_t> indices_of(const std::vector<Batch>& batches) {
  std::vector<std::int64_t> indices;
  for (const Batch& batch : batches) {
    for (std::int64_t row = 0; row < batch.inputs.size(0); ++row) {
      indices.push_back(batch.inputs[row][0].item<std::int64_t>() - 1);
    }
  }
  return indices;
}

void expect_equal(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(a[i].inputs.equal(b[i].inputs));
    EXPECT_TRUE(a[i].mask.equal(b[i].mask));
    EXPECT_TRUE(a[i].labels.equal(b[i].labels));
  }
}

TEST(Loader, PadsAndMasks) {
  const SequenceDataset dataset{.name = "toy",
                                .examples = {{{5}, 2}, {{1, 2, 3}, 0}, {{4, 4}, 1}},
                                .class_names = {"a", "b", "c"},
                                .vocabulary = 6};
  SequenceLoader loader(dataset,
                        {.batch_size = 2, .shuffle = false, .bucket = false, .workers = 0});
  EXPECT_EQ(loader.batches_per_epoch(), 2);
  loader.start_epoch(0);
  const std::vector<Batch> batches = remaining(loader);
  ASSERT_EQ(batches.size(), 2U);
  EXPECT_TRUE(batches[0].inputs.equal(torch::tensor({{5, 0, 0}, {1, 2, 3}}, torch::kInt64)));
  EXPECT_TRUE(batches[0].mask.equal(torch::tensor({{1, 0, 0}, {1, 1, 1}}).to(torch::kBool)));
  EXPECT_TRUE(batches[0].labels.equal(torch::tensor({2, 0}, torch::kInt64)));
  EXPECT_TRUE(batches[1].inputs.equal(torch::tensor({{4, 4}}, torch::kInt64)));
  EXPECT_TRUE(batches[1].mask.equal(torch::ones({1, 2}, torch::kBool)));
  EXPECT_FALSE(loader.next().has_value());
}

TEST(Loader, HoldsEveryExampleOnce) {
  const SequenceDataset dataset = make_dataset(501);
  for (const bool shuffle : {false, true}) {
    for (const bool bucket : {false, true}) {
      for (const bool drop_last : {false, true}) {
        SequenceLoader loader(dataset, {.batch_size = 4,
                                        .shuffle = shuffle,
                                        .bucket = bucket,
                                        .drop_last = drop_last,
                                        .workers = 2});
        loader.start_epoch(3);
        const std::vector<Batch> batches = remaining(loader);
        EXPECT_EQ(std::ssize(batches), loader.batches_per_epoch());
        const std::vector<std::int64_t> indices = indices_of(batches);
        const std::size_t expected = drop_last ? 500 : 501;
        EXPECT_EQ(indices.size(), expected);
        EXPECT_EQ(std::set(indices.begin(), indices.end()).size(), expected);
        if (!bucket) {
          EXPECT_EQ(std::is_sorted(indices.begin(), indices.end()), !shuffle);
        }
        for (const Batch& batch : batches) {
          // The mask says where tokens are, and no batch is wider than its longest example.
          EXPECT_TRUE(batch.mask.equal(batch.inputs != 0));
          EXPECT_TRUE(batch.mask.any(0).all().item<bool>());
        }
      }
    }
  }
}

TEST(Loader, DeliversTheSameForAnyNumberOfWorkers) {
  const SequenceDataset dataset = make_dataset(333);
  const auto run = [&](std::int64_t workers) {
    SequenceLoader loader(dataset, {.batch_size = 5, .seed = 11, .workers = workers});
    std::vector<Batch> all;
    for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
      loader.start_epoch(epoch);
      for (Batch& batch : remaining(loader)) all.push_back(std::move(batch));
    }
    return all;
  };
  const std::vector<Batch> expected = run(0);
  for (const std::int64_t workers : {1, 2, 5}) expect_equal(run(workers), expected);
}

TEST(Loader, OrderDependsOnSeedAndEpoch) {
  const SequenceDataset dataset = make_dataset(100);
  const auto order = [&](std::uint64_t seed, std::int64_t epoch) {
    SequenceLoader loader(dataset, {.batch_size = 5, .seed = seed, .workers = 0});
    loader.start_epoch(epoch);
    return indices_of(remaining(loader));
  };
  EXPECT_EQ(order(1, 1), order(1, 1));
  EXPECT_NE(order(1, 1), order(1, 2));
  EXPECT_NE(order(1, 1), order(2, 1));
  EXPECT_NE(order(1, 0), order(0, 1));
}

TEST(Loader, ResumesAtAnyBatch) {
  const SequenceDataset dataset = make_dataset(103);
  for (const std::int64_t workers : {0, 3}) {
    SequenceLoader loader(dataset, {.batch_size = 10, .workers = workers});
    loader.start_epoch(4);
    const std::vector<Batch> whole = remaining(loader);
    for (std::int64_t first = 0; first <= loader.batches_per_epoch(); ++first) {
      loader.start_epoch(4, first);
      expect_equal(remaining(loader), {whole.begin() + first, whole.end()});
    }
    // Away from the middle of another epoch.
    loader.start_epoch(9);
    ASSERT_TRUE(loader.next().has_value());
    loader.start_epoch(4, 2);
    expect_equal(remaining(loader), {whole.begin() + 2, whole.end()});
  }
}

TEST(Loader, BucketingSavesPaddingAndKeepsARandomOrder) {
  const SequenceDataset dataset = make_dataset(1000);
  const auto load = [&](bool bucket) {
    SequenceLoader loader(dataset, {.batch_size = 10, .bucket = bucket, .workers = 0});
    loader.start_epoch(0);
    return remaining(loader);
  };
  const auto padding = [](const std::vector<Batch>& batches) {
    std::int64_t count = 0;
    for (const Batch& batch : batches) count += (~batch.mask).sum().item<std::int64_t>();
    return count;
  };
  const std::vector<Batch> bucketed = load(true);
  // Two pools of 500, each sorted: a row is padded by the step from its length to the batch's
  // longest. The steps of a column of rows add up to at most the range of lengths, 22, so a pool
  // pads at most 10 * 22.
  EXPECT_LE(padding(bucketed), 2 * 10 * 22);
  EXPECT_GT(padding(load(false)), 10 * padding(bucketed));
  std::vector<std::int64_t> widths;
  widths.reserve(bucketed.size());
  for (const Batch& batch : bucketed) widths.push_back(batch.inputs.size(1));
  EXPECT_FALSE(std::is_sorted(widths.begin(), widths.begin() + 50));
}

TEST(Loader, ErrorsSurfaceInTheirPlace) {
  SequenceDataset dataset = make_dataset(40);
  const auto check = [&](std::initializer_list<std::string> parts) {
    for (const std::int64_t workers : {0, 1, 3}) {
      SequenceLoader loader(
          dataset, {.batch_size = 4, .shuffle = false, .bucket = false, .workers = workers});
      loader.start_epoch(0);
      for (int i = 0; i < 5; ++i) EXPECT_TRUE(loader.next().has_value());
      expect_input_error([&] { loader.next(); }, parts);
      EXPECT_EQ(remaining(loader).size(), 4U);
    }
  };
  const Example good = dataset.examples[22];
  dataset.examples[22].tokens.back() = 0;
  check({"tokens in [1, 42)", "example 22", "'toy'", "got 0"});
  dataset.examples[22].tokens.back() = 42;
  check({"tokens in [1, 42)", "got 42"});
  dataset.examples[22] = good;
  dataset.examples[22].label = 3;
  check({"a label in [0, 3)", "example 22", "got 3"});
  dataset.examples[22] = {{}, 0};
  check({"at least one token", "example 22"});
}

TEST(Loader, StopsCleanlyAtAnyTime) {
  const SequenceDataset dataset = make_dataset(200);
  for (std::int64_t taken = 0; taken < 50; ++taken) {
    SequenceLoader loader(dataset, {.batch_size = 4, .workers = 4});
    loader.start_epoch(0);
    for (std::int64_t i = 0; i < taken; ++i) ASSERT_TRUE(loader.next().has_value());
  }
  const SequenceLoader never_started(dataset, {});
}

TEST(Loader, RefusesMisuse) {
  const SequenceDataset dataset = make_dataset(10);
  const auto refused = [&](const LoaderOptions& options, const std::string& part) {
    expect_input_error([&] { SequenceLoader(dataset, options); }, {part});
  };
  refused({.batch_size = 0}, "batch_size");
  refused({.workers = -1}, "workers");
  refused({.batch_size = 11, .drop_last = true}, "at least 11 examples in data set 'toy', got 10");
  const SequenceDataset empty{.name = "void"};
  expect_input_error([&] { SequenceLoader(empty, {}); }, {"at least 1 examples", "'void'"});

  SequenceLoader loader(dataset, {.batch_size = 4});
  EXPECT_THROW(loader.next(), Error);
  EXPECT_THROW(loader.start_epoch(-1), InputError);
  EXPECT_THROW(loader.start_epoch(0, -1), InputError);
  EXPECT_THROW(loader.start_epoch(0, 4), InputError);
  loader.start_epoch(0, 3);
  EXPECT_FALSE(loader.next().has_value());
}

}  // namespace
}  // namespace ecoformer::data
