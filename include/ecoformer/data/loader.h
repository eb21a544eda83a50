// Padded batches of a SequenceDataset, prepared ahead by worker threads in a reproducible order.
#pragma once

#include <torch/torch.h>

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <variant>
#include <vector>

#include "ecoformer/data/dataset.h"

namespace ecoformer::data {

/// B examples padded on the right to the longest of them, N tokens.
struct Batch {
  torch::Tensor tokens;  ///< int64 [B, N], 0 where padded.
  torch::Tensor mask;    ///< bool [B, N], true at real tokens: where `tokens` is not 0.
  torch::Tensor labels;  ///< int64 [B].
};

struct LoaderOptions {
  std::int64_t batch_size = 32;
  /// A new random order every epoch; otherwise the order of the data set.
  bool shuffle = true;
  std::uint64_t seed = 0;
  /// Puts examples of similar length together, which saves padding: pools of 50 batches, drawn in
  /// the order above, are sorted by length and cut into batches; with `shuffle` the batches are
  /// shuffled.
  bool bucket = true;
  /// Leaves out the last examples of the order where they do not fill a batch.
  bool drop_last = false;
  /// Threads that prepare batches ahead; 0 prepares each batch inside next().
  std::int64_t workers = 2;
};

/// Iterates over a data set in batches. What is delivered, and when an error is, depends on the
/// data set, the options but `workers`, and the epoch alone. For use by one thread at a time.
class SequenceLoader {
 public:
  /// Keeps a reference to `dataset`, which must outlive the loader and not change meanwhile. Throws
  /// InputError for options out of range and for a data set too small for one batch.
  SequenceLoader(const SequenceDataset& dataset, const LoaderOptions& options);
  SequenceLoader(SequenceDataset&&, const LoaderOptions&) = delete;

  std::int64_t batches_per_epoch() const { return batches_per_epoch_; }

  /// Begins `epoch` at its batch number `first_batch`, in the middle of another epoch too; together
  /// with the seed this restores any position. Throws InputError for a negative epoch or a batch
  /// outside [0, batches_per_epoch()].
  void start_epoch(std::int64_t epoch, std::int64_t first_batch = 0);

  /// The next batch, or nothing once the epoch is over. Throws InputError in place of a batch that
  /// holds an empty example, a token outside [1, vocabulary) or a label without a class (the call
  /// after that goes on with the following batch), and Error before the first start_epoch.
  std::optional<Batch> next();

 private:
  using Outcome = std::variant<Batch, std::exception_ptr>;

  void plan_epoch(std::int64_t epoch);
  Batch collate(const std::vector<std::int64_t>& indices) const;
  void work(const std::stop_token& stop);

  const SequenceDataset& dataset_;
  LoaderOptions options_;
  std::int64_t batches_per_epoch_ = 0;
  /// The example indices of each batch of the epoch; empty before the first start_epoch.
  std::vector<std::vector<std::int64_t>> plan_;
  std::int64_t delivered_ = 0;

  std::mutex mutex_;  // Guards delivered_ and the two below while workers run.
  std::int64_t claimed_ = 0;
  std::map<std::int64_t, Outcome> finished_;
  std::condition_variable_any changed_;
  std::vector<std::jthread> workers_;  // Last, so that they are stopped and joined first.
};

}  // namespace ecoformer::data
