// Padded batches of sequences: a plan drawn from (seed, epoch), and their collation.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>

#include "data/plan.h"
#include "data/random.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/loader.h"

namespace ecoformer::data {
namespace {

constexpr std::int64_t kPoolBatches = 50;

class SequenceSource : public BatchSource {
 public:
  SequenceSource(const SequenceDataset& dataset, const LoaderOptions& options)
      : dataset_(dataset),
        options_(options),
        batches_per_epoch_(count_batches(std::ssize(dataset.examples), options.batch_size,
                                         options.drop_last, "SequenceLoader", dataset.name)) {}

  std::int64_t batches_per_epoch() const override { return batches_per_epoch_; }

  void plan(std::int64_t epoch) override {
    Engine engine = engine_of({options_.seed, static_cast<std::uint64_t>(epoch)});
    const auto& examples = dataset_.examples;
    std::vector<std::int64_t> order(examples.size());
    std::iota(order.begin(), order.end(), 0);
    if (options_.shuffle) shuffle(order, engine);
    if (options_.drop_last) {
      // Before sorting: what is left out must not depend on the length.
      order.resize(static_cast<std::size_t>(batches_per_epoch_ * options_.batch_size));
    }
    if (options_.bucket) {
      const auto length = [&](std::int64_t i) {
        return examples[static_cast<std::size_t>(i)].tokens.size();
      };
      for_each_chunk(order.begin(), order.end(), kPoolBatches * options_.batch_size,
                     [&](auto begin, auto end) {
                       std::stable_sort(begin, end,
                                        [&](auto a, auto b) { return length(a) < length(b); });
                     });
    }
    plan_.clear();
    for_each_chunk(order.begin(), order.end(), options_.batch_size,
                   [&](auto begin, auto end) { plan_.emplace_back(begin, end); });
    if (options_.shuffle && options_.bucket) shuffle(plan_, engine);
  }

  Batch make(std::int64_t number) const override {
    const std::vector<std::int64_t>& indices = plan_[static_cast<std::size_t>(number)];
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
    Batch batch{.inputs = torch::empty({rows, longest}, torch::kInt64),
                .mask = torch::empty({rows, longest}, torch::kBool),
                .labels = torch::empty({rows}, torch::kInt64)};
    auto* token_row = batch.inputs.mutable_data_ptr<std::int64_t>();
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

 private:
  const SequenceDataset& dataset_;
  LoaderOptions options_;
  std::int64_t batches_per_epoch_;
  std::vector<std::vector<std::int64_t>> plan_;  // The example indices of each batch.
};

}  // namespace

SequenceLoader::SequenceLoader(const SequenceDataset& dataset, const LoaderOptions& options)
    : Loader(std::make_unique<SequenceSource>(dataset, options), options.workers) {}

}  // namespace ecoformer::data
