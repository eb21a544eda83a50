// Batches of pictures: a plan drawn from (seed, epoch), decoding, augmentation and mixing.
#include "ecoformer/data/image_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "data/augment.h"
#include "data/mix.h"
#include "data/plan.h"
#include "data/random.h"
#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

constexpr std::int64_t kLargestSize = 4096;

// An occurrence of a picture in an epoch.
struct Sample {
  std::int64_t index = 0;
  std::int64_t repeat = 0;
};

void check(const ImageDataset& dataset, const ImageLoaderOptions& options) {
  if (options.image_size < 1 || options.image_size > kLargestSize) {
    throw InputError(fmt::format("ImageLoader: expected image_size in [1, {}], got {}",
                                 kLargestSize, options.image_size));
  }
  if (options.repeats < 1) {
    throw InputError(fmt::format("ImageLoader: expected repeats >= 1, got {}", options.repeats));
  }
  if (!(options.label_smoothing >= 0 && options.label_smoothing < 1)) {
    throw InputError(fmt::format("ImageLoader: expected label_smoothing in [0, 1), got {}",
                                 options.label_smoothing));
  }
  const auto classes = std::ssize(dataset.class_names);
  for (std::size_t i = 0; i < dataset.labels.size(); ++i) {
    if (dataset.labels[i] >= 0 && dataset.labels[i] < classes) continue;
    throw InputError(
        fmt::format("ImageLoader: expected a label in [0, {}) for picture {} of data set '{}', "
                    "got {}",
                    classes, i, dataset.name, dataset.labels[i]));
  }
}

class ImageSource : public BatchSource {
 public:
  ImageSource(ImageDataset dataset, const ImageLoaderOptions& options)
      : dataset_(std::move(dataset)),
        options_(options),
        batches_per_epoch_(count_batches(std::ssize(dataset_.labels), options.batch_size,
                                         options.drop_last, "ImageLoader", dataset_.name)) {
    check(dataset_, options_);
  }

  std::int64_t batches_per_epoch() const override { return batches_per_epoch_; }

  void plan(std::int64_t epoch) override {
    epoch_ = static_cast<std::uint64_t>(epoch);
    order_.resize(dataset_.labels.size());
    std::iota(order_.begin(), order_.end(), 0);
    if (!options_.shuffle) return;
    Engine engine = engine_of({options_.seed, epoch_});
    shuffle(order_, engine);
  }

  Batch make(std::int64_t number) const override {
    const std::int64_t begin = number * options_.batch_size;
    const std::int64_t end = std::min(begin + options_.batch_size, std::ssize(order_));
    const std::int64_t size = options_.image_size;
    const std::int64_t elements = 3 * size * size;
    Batch batch{.inputs = torch::empty({end - begin, 3, size, size}, torch::kFloat32),
                .labels = torch::empty({end - begin}, torch::kInt64)};
    auto* const inputs = batch.inputs.mutable_data_ptr<float>();
    auto* const labels = batch.labels.mutable_data_ptr<std::int64_t>();
    std::int64_t rows = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const Sample sample = sample_at(i);
      const std::optional<Image> image = read(sample.index, batch.skipped);
      if (!image) continue;
      transform(*image, sample, {inputs + rows * elements, static_cast<std::size_t>(elements)});
      labels[rows++] = dataset_.labels[static_cast<std::size_t>(sample.index)];
    }
    if (rows == 0) {
      throw InputError(
          fmt::format("ImageLoader: expected a picture that can be read in batch {} "
                      "of data set '{}', got none of {}; the last: {}",
                      number, dataset_.name, end - begin, batch.skipped.back()));
    }
    batch.inputs = batch.inputs.narrow(0, 0, rows);
    batch.labels = batch.labels.narrow(0, 0, rows);
    if (options_.mix) {
      Engine engine = engine_of({options_.seed, epoch_, static_cast<std::uint64_t>(number)});
      const Mixing mixing = draw_mixing(size, engine);
      mix(batch.inputs, mixing);
      batch.targets = mixed_targets(batch.labels, std::ssize(dataset_.class_names), mixing.lambda,
                                    options_.label_smoothing);
    }
    return batch;
  }

 private:
  Sample sample_at(std::int64_t position) const {
    return {.index = order_[static_cast<std::size_t>(position / options_.repeats)],
            .repeat = position % options_.repeats};
  }

  std::optional<Image> read(std::int64_t index, std::vector<std::string>& skipped) const {
    if (options_.strict) return dataset_.image(index);
    try {
      return dataset_.image(index);
    } catch (const InputError& error) {
      skipped.emplace_back(error.what());
      return std::nullopt;
    }
  }

  void transform(const Image& image, const Sample& sample, std::span<float> output) const {
    if (!options_.augment) {
      normalize(evaluation_view(image, options_.image_size, options_.crop), output);
      return;
    }
    Engine engine = engine_of({options_.seed, epoch_, static_cast<std::uint64_t>(sample.index),
                               static_cast<std::uint64_t>(sample.repeat)});
    augment(image, options_.image_size, engine, output);
  }

  ImageDataset dataset_;
  ImageLoaderOptions options_;
  std::int64_t batches_per_epoch_;
  std::uint64_t epoch_ = 0;
  std::vector<std::int64_t> order_;
};

}  // namespace

ImageLoader::ImageLoader(ImageDataset dataset, const ImageLoaderOptions& options)
    : Loader(std::make_unique<ImageSource>(std::move(dataset), options), options.workers) {}

}  // namespace ecoformer::data
