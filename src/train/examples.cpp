// Sequences and pictures behind one interface.
#include "ecoformer/train/examples.h"

#include <fmt/format.h>

#include <algorithm>

#include "ecoformer/base/error.h"
#include "ecoformer/data/image_loader.h"

namespace ecoformer::train {
namespace {

/// FNV-1a over a row of numbers.
class Digest {
 public:
  void add(std::int64_t value) {
    hash_ = (hash_ ^ static_cast<std::uint64_t>(value)) * 0x100000001b3;
  }
  std::string text(std::int64_t examples) const {
    return fmt::format("{} examples {:016x}", examples, hash_);
  }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

/// The batch size of a sample: `count`, at most `size`. A loader refuses what is below 1.
std::int64_t sample_size(std::int64_t count, std::int64_t size) {
  return std::min(count, std::max<std::int64_t>(size, 1));
}

/// Pictures as models are evaluated on them, shuffled.
data::ImageLoaderOptions loader_options(const ImageView& view, std::int64_t batch_size,
                                        std::int64_t workers) {
  return {.batch_size = batch_size,
          .image_size = view.size,
          .augment = false,
          .crop = view.crop,
          .strict = view.strict,
          .workers = workers};
}

}  // namespace

models::InputBounds SequenceExamples::bounds() const {
  std::size_t longest = 0;
  for (const data::Example& example : dataset_.examples) {
    longest = std::max(longest, example.tokens.size());
  }
  return {.tokens = static_cast<std::int64_t>(longest), .vocabulary = dataset_.vocabulary};
}

std::string SequenceExamples::fingerprint() const {
  Digest digest;
  for (const data::Example& example : dataset_.examples) {
    for (const std::int32_t token : example.tokens) digest.add(token);
    digest.add(-1 - example.label);
  }
  return digest.text(size());
}

std::unique_ptr<data::Loader> SequenceExamples::training_loader(const TrainConfig& config,
                                                                std::int64_t workers) const {
  if (config.augment || config.mix || config.repeats != 1) {
    throw InputError(
        fmt::format("train: expected images to augment, mix or repeat, got the sequences of '{}'",
                    dataset_.name));
  }
  return std::make_unique<data::SequenceLoader>(
      dataset_, data::LoaderOptions{
                    .batch_size = config.batch_size, .seed = config.seed, .workers = workers});
}

std::unique_ptr<data::Loader> SequenceExamples::evaluation_loader(std::int64_t batch_size,
                                                                  std::int64_t workers) const {
  return std::make_unique<data::SequenceLoader>(
      dataset_,
      data::LoaderOptions{.batch_size = batch_size, .shuffle = false, .workers = workers});
}

data::Batch SequenceExamples::sample(std::int64_t count, std::uint64_t seed,
                                     std::int64_t draw) const {
  data::SequenceLoader loader(dataset_, {.batch_size = sample_size(count, size()),
                                         .seed = seed,
                                         .bucket = false,  // All lengths in one batch.
                                         .workers = 0});
  loader.start_epoch(draw);
  return *loader.next();
}

std::string ImageExamples::fingerprint() const {
  constexpr std::int64_t kPictures = 64;
  Digest digest;
  digest.add(view_.size);
  digest.add(static_cast<std::int64_t>(view_.crop));
  for (const std::int64_t label : dataset_.labels) digest.add(label);
  const std::int64_t pictures = std::min(size(), kPictures);
  for (std::int64_t i = 0; i < pictures; ++i) {
    try {
      const data::Image image = dataset_.image(i * size() / pictures);
      for (const std::uint8_t sample : image.pixels) digest.add(sample);
    } catch (const InputError&) {
      digest.add(-1);  // It will be left out, or complained about, where it is needed.
    }
  }
  return digest.text(size());
}

std::unique_ptr<data::Loader> ImageExamples::training_loader(const TrainConfig& config,
                                                             std::int64_t workers) const {
  data::ImageLoaderOptions options = loader_options(view_, config.batch_size, workers);
  options.seed = config.seed;
  options.augment = config.augment;
  options.repeats = config.repeats;
  options.mix = config.mix;
  options.label_smoothing = config.label_smoothing;
  return std::make_unique<data::ImageLoader>(dataset_, options);
}

std::unique_ptr<data::Loader> ImageExamples::evaluation_loader(std::int64_t batch_size,
                                                               std::int64_t workers) const {
  data::ImageLoaderOptions options = loader_options(view_, batch_size, workers);
  options.shuffle = false;
  return std::make_unique<data::ImageLoader>(dataset_, options);
}

data::Batch ImageExamples::sample(std::int64_t count, std::uint64_t seed, std::int64_t draw) const {
  data::ImageLoaderOptions options =
      loader_options(view_, sample_size(count, size()), /*workers=*/0);
  options.seed = seed;
  data::ImageLoader loader(dataset_, options);
  loader.start_epoch(draw);
  return *loader.next();
}

}  // namespace ecoformer::train
