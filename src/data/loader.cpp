// The loader: a plan of batches drawn from (seed, epoch), and threads that collate them ahead.
// Workers claim batch numbers in order and at most kBatchesAhead each beyond what was delivered;
// next() hands them out by number, so timing never shows.
#include "ecoformer/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "data/random.h"
#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

constexpr std::int64_t kPoolBatches = 50;
constexpr std::int64_t kBatchesAhead = 2;
constexpr std::int64_t kMostWorkers = 256;

}  // namespace

SequenceLoader::SequenceLoader(const SequenceDataset& dataset, const LoaderOptions& options)
    : dataset_(dataset), options_(options) {
  if (options.batch_size < 1) {
    throw InputError(
        fmt::format("SequenceLoader: expected batch_size >= 1, got {}", options.batch_size));
  }
  if (options.workers < 0 || options.workers > kMostWorkers) {
    throw InputError(fmt::format("SequenceLoader: expected workers in [0, {}], got {}",
                                 kMostWorkers, options.workers));
  }
  const std::int64_t examples = std::ssize(dataset.examples);
  const std::int64_t full = examples / options.batch_size;
  const bool rest = examples % options.batch_size != 0;
  batches_per_epoch_ = options.drop_last || !rest ? full : full + 1;
  if (batches_per_epoch_ == 0) {
    throw InputError(
        fmt::format("SequenceLoader: expected at least {} examples in data set '{}', "
                    "got {}",
                    options.drop_last ? options.batch_size : 1, dataset.name, examples));
  }
}

void SequenceLoader::start_epoch(std::int64_t epoch, std::int64_t first_batch) {
  if (epoch < 0) {
    throw InputError(fmt::format("SequenceLoader: expected an epoch >= 0, got {}", epoch));
  }
  if (first_batch < 0 || first_batch > batches_per_epoch_) {
    throw InputError(fmt::format("SequenceLoader: expected a first batch in [0, {}], got {}",
                                 batches_per_epoch_, first_batch));
  }
  workers_.clear();  // Stops and joins them.
  finished_.clear();
  plan_epoch(epoch);
  delivered_ = first_batch;
  claimed_ = first_batch;
  for (std::int64_t i = 0; i < options_.workers; ++i) {
    workers_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
}

std::optional<Batch> SequenceLoader::next() {
  if (plan_.empty()) throw Error("SequenceLoader: expected start_epoch before next, got none");
  if (delivered_ == batches_per_epoch_) return std::nullopt;
  if (workers_.empty()) return collate(plan_[static_cast<std::size_t>(delivered_++)]);

  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return finished_.contains(delivered_); });
  Outcome outcome = std::move(finished_.extract(delivered_).mapped());
  ++delivered_;
  lock.unlock();
  changed_.notify_all();
  if (auto* const error = std::get_if<std::exception_ptr>(&outcome)) std::rethrow_exception(*error);
  return std::get<Batch>(std::move(outcome));
}

void SequenceLoader::plan_epoch(std::int64_t epoch) {
  Engine engine = engine_of(options_.seed, static_cast<std::uint64_t>(epoch));
  const auto& examples = dataset_.examples;
  std::vector<std::int64_t> order(examples.size());
  std::iota(order.begin(), order.end(), 0);
  if (options_.shuffle) shuffle(order, engine);
  if (options_.drop_last) {
    // Before sorting: what is left out must not depend on the length.
    order.resize(static_cast<std::size_t>(batches_per_epoch_ * options_.batch_size));
  }
  const auto for_each_chunk = [&](std::int64_t size, const auto& visit) {
    for (auto begin = order.begin(); begin != order.end();) {
      const auto end = begin + std::min<std::int64_t>(size, order.end() - begin);
      visit(begin, end);
      begin = end;
    }
  };
  if (options_.bucket) {
    const auto length = [&](std::int64_t i) {
      return examples[static_cast<std::size_t>(i)].tokens.size();
    };
    for_each_chunk(kPoolBatches * options_.batch_size, [&](auto begin, auto end) {
      std::stable_sort(begin, end, [&](auto a, auto b) { return length(a) < length(b); });
    });
  }
  plan_.clear();
  for_each_chunk(options_.batch_size,
                 [&](auto begin, auto end) { plan_.emplace_back(begin, end); });
  if (options_.shuffle && options_.bucket) shuffle(plan_, engine);
}

Batch SequenceLoader::collate(const std::vector<std::int64_t>& indices) const {
  const auto classes = std::ssize(dataset_.class_names);
  std::int64_t longest = 0;
  for (const std::int64_t index : indices) {
    const Example& example = dataset_.examples[static_cast<std::size_t>(index)];
    const auto refuse = [&](std::string_view expected, std::int64_t found) {
      throw InputError(
          fmt::format("SequenceLoader: expected {} in example {} of data set '{}', got {}",
                      expected, index, dataset_.name, found));
    };
    if (example.tokens.empty()) refuse("at least one token", 0);
    if (example.label < 0 || example.label >= classes) {
      refuse(fmt::format("a label in [0, {})", classes), example.label);
    }
    const std::int32_t least = dataset_.masked_tokens ? 0 : 1;
    for (const std::int32_t token : example.tokens) {
      if (token < least || token >= dataset_.vocabulary) {
        refuse(fmt::format("tokens in [{}, {})", least, dataset_.vocabulary), token);
      }
    }
    longest = std::max(longest, static_cast<std::int64_t>(example.tokens.size()));
  }
  // Filled by hand: LibTorch's own operators would start a team of threads under every worker.
  const std::int64_t rows = std::ssize(indices);
  Batch batch{.tokens = torch::empty({rows, longest}, torch::kInt64),
              .mask = torch::empty({rows, longest}, torch::kBool),
              .labels = torch::empty({rows}, torch::kInt64)};
  auto* token_row = batch.tokens.mutable_data_ptr<std::int64_t>();
  auto* mask_row = batch.mask.mutable_data_ptr<bool>();
  auto* label = batch.labels.mutable_data_ptr<std::int64_t>();
  for (const std::int64_t index : indices) {
    const Example& example = dataset_.examples[static_cast<std::size_t>(index)];
    const std::int64_t length = std::ssize(example.tokens);
    std::copy(example.tokens.begin(), example.tokens.end(), token_row);
    std::fill(token_row + length, token_row + longest, 0);
    std::transform(token_row, token_row + longest, mask_row,
                   [](std::int64_t token) { return token != 0; });
    *label++ = example.label;
    token_row += longest;
    mask_row += longest;
  }
  return batch;
}

void SequenceLoader::work(const std::stop_token& stop) {
  const std::int64_t ahead = kBatchesAhead * options_.workers;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, stop,
                  [&] { return claimed_ == batches_per_epoch_ || claimed_ < delivered_ + ahead; });
    if (stop.stop_requested() || claimed_ == batches_per_epoch_) return;
    const std::int64_t number = claimed_++;
    lock.unlock();
    Outcome outcome;
    try {
      outcome = collate(plan_[static_cast<std::size_t>(number)]);
    } catch (...) {
      outcome = std::current_exception();
    }
    lock.lock();
    finished_.emplace(number, std::move(outcome));
    changed_.notify_all();
  }
}

}  // namespace ecoformer::data
