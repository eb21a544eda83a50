// Batches prepared ahead by worker threads in a reproducible order, whatever they are made of.
#pragma once

#include <torch/types.h>

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "ecoformer/data/dataset.h"

namespace ecoformer::data {

/// B examples: sequences padded on the right to the longest of them, N tokens, or images.
struct Batch {
  torch::Tensor inputs = {};  ///< int64 [B, N], 0 where padded; or float32 [B, 3, H, W].
  /// bool [B, N], true at real tokens: where `inputs` is not 0; undefined for images.
  torch::Tensor mask = {};
  torch::Tensor labels = {};  ///< int64 [B].
  torch::Tensor targets =
      {};  ///< float32 [B, classes] where examples are mixed, otherwise undefined.
  /// Why examples of this batch are missing from it, a message each.
  std::vector<std::string> skipped = {};
};

/// What a Loader delivers: a plan of batches for every epoch, and the batches themselves.
class BatchSource {
 public:
  virtual ~BatchSource() = default;

  virtual std::int64_t batches_per_epoch() const = 0;

  /// Decides what the batches of `epoch` hold. Never called while make() runs.
  virtual void plan(std::int64_t epoch) = 0;

  /// The batch at `number` in [0, batches_per_epoch()) of the planned epoch. Depends on nothing
  /// else; several threads call it at once.
  virtual Batch make(std::int64_t number) const = 0;
};

/// Iterates over the batches of a source. What is delivered, and when an error is, does not depend
/// on the number of workers. For use by one thread at a time.
class Loader {
 public:
  /// `workers` threads make batches ahead; 0 makes each batch inside next(). Throws InputError for
  /// a number out of range.
  Loader(std::unique_ptr<BatchSource> source, std::int64_t workers);
  virtual ~Loader() = default;

  std::int64_t batches_per_epoch() const { return batches_per_epoch_; }

  /// Begins `epoch` at its batch number `first_batch`, in the middle of another epoch too; together
  /// with the seed this restores any position. Throws InputError for a negative epoch or a batch
  /// outside [0, batches_per_epoch()].
  void start_epoch(std::int64_t epoch, std::int64_t first_batch = 0);

  /// The next batch, or nothing once the epoch is over. Throws what the source throws in place of a
  /// batch (the call after that goes on with the following batch), and Error before the first
  /// start_epoch.
  std::optional<Batch> next();

 private:
  using Outcome = std::variant<Batch, std::exception_ptr>;

  void work(const std::stop_token& stop);

  std::unique_ptr<BatchSource> source_;
  std::int64_t worker_count_;
  std::int64_t batches_per_epoch_;
  bool started_ = false;
  std::int64_t delivered_ = 0;

  std::mutex mutex_;  // Guards delivered_ and the two below while workers run.
  std::int64_t claimed_ = 0;
  std::map<std::int64_t, Outcome> finished_;
  std::condition_variable_any changed_;
  std::vector<std::jthread> workers_;  // Last, so that they are stopped and joined first.
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

/// Loads padded batches of a SequenceDataset. What is delivered depends on the data set, the
/// options but `workers`, and the epoch alone.
class SequenceLoader : public Loader {
 public:
  /// Keeps a reference to `dataset`, which must outlive the loader and not change meanwhile. Throws
  /// InputError for options out of range and for a data set too small for one batch; next() throws
  /// it in place of a batch that holds an empty example, a token outside [1, vocabulary) or a label
  /// without a class.
  SequenceLoader(const SequenceDataset& dataset, const LoaderOptions& options);
  SequenceLoader(SequenceDataset&&, const LoaderOptions&) = delete;
};

}  // namespace ecoformer::data
