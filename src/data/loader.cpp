// The engine of every loader: workers claim batch numbers in order and at most kBatchesAhead each
// beyond what was delivered; next() hands them out by number, so timing never shows.
#include "ecoformer/data/loader.h"

#include <fmt/format.h>

#include <utility>

#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

constexpr std::int64_t kBatchesAhead = 2;
constexpr std::int64_t kMostWorkers = 256;

}  // namespace

Loader::Loader(std::unique_ptr<BatchSource> source, std::int64_t workers)
    : source_(std::move(source)),
      worker_count_(workers),
      batches_per_epoch_(source_->batches_per_epoch()) {
  if (workers < 0 || workers > kMostWorkers) {
    throw InputError(
        fmt::format("Loader: expected workers in [0, {}], got {}", kMostWorkers, workers));
  }
}

void Loader::start_epoch(std::int64_t epoch, std::int64_t first_batch) {
  if (epoch < 0) throw InputError(fmt::format("Loader: expected an epoch >= 0, got {}", epoch));
  if (first_batch < 0 || first_batch > batches_per_epoch_) {
    throw InputError(fmt::format("Loader: expected a first batch in [0, {}], got {}",
                                 batches_per_epoch_, first_batch));
  }
  workers_.clear();  // Stops and joins them.
  finished_.clear();
  source_->plan(epoch);
  started_ = true;
  delivered_ = first_batch;
  claimed_ = first_batch;
  for (std::int64_t i = 0; i < worker_count_; ++i) {
    workers_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
}

std::optional<Batch> Loader::next() {
  if (!started_) throw Error("Loader: expected start_epoch before next, got none");
  if (delivered_ == batches_per_epoch_) return std::nullopt;
  if (workers_.empty()) return source_->make(delivered_++);

  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return finished_.contains(delivered_); });
  Outcome outcome = std::move(finished_.extract(delivered_).mapped());
  ++delivered_;
  lock.unlock();
  changed_.notify_all();
  if (auto* const error = std::get_if<std::exception_ptr>(&outcome)) std::rethrow_exception(*error);
  return std::get<Batch>(std::move(outcome));
}

void Loader::work(const std::stop_token& stop) {
  const std::int64_t ahead = kBatchesAhead * worker_count_;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, stop,
                  [&] { return claimed_ == batches_per_epoch_ || claimed_ < delivered_ + ahead; });
    if (stop.stop_requested() || claimed_ == batches_per_epoch_) return;
    const std::int64_t number = claimed_++;
    lock.unlock();
    Outcome outcome;
    try {
      outcome = source_->make(number);
    } catch (...) {
      outcome = std::current_exception();
    }
    lock.lock();
    finished_.emplace(number, std::move(outcome));
    changed_.notify_all();
  }
}

}  // namespace ecoformer::data
