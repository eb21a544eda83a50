// Labelled sets as training, hash learning and evaluation see them: where batches come from,
// whatever an example is.
#pragma once

#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ecoformer/data/dataset.h"
#include "ecoformer/data/image_dataset.h"
#include "ecoformer/data/image_transforms.h"
#include "ecoformer/data/loader.h"
#include "ecoformer/models/classifier.h"
#include "ecoformer/train/train_config.h"

namespace ecoformer::train {

/// A labelled set. What its loaders deliver does not depend on the number of workers.
class Examples {
 public:
  virtual ~Examples() = default;

  virtual const std::string& name() const = 0;
  virtual const std::vector<std::string>& class_names() const = 0;
  virtual std::int64_t size() const = 0;
  virtual models::InputBounds bounds() const = 0;

  /// A digest that tells whether two runs had the same data.
  virtual std::string fingerprint() const = 0;

  /// Batches to train on, in a new random order every epoch. Of the configuration the batch size,
  /// the seed and how images are augmented are read. Throws InputError where that does not fit.
  virtual std::unique_ptr<data::Loader> training_loader(const TrainConfig& config,
                                                        std::int64_t workers) const = 0;

  /// Every example once, as models are evaluated on it.
  virtual std::unique_ptr<data::Loader> evaluation_loader(std::int64_t batch_size,
                                                          std::int64_t workers) const = 0;

  /// One batch of `count` random examples (all, if there are fewer), as models are evaluated on
  /// them; another `draw`, other examples.
  virtual data::Batch sample(std::int64_t count, std::uint64_t seed, std::int64_t draw) const = 0;
};

/// Token sequences.
class SequenceExamples : public Examples {
 public:
  explicit SequenceExamples(data::SequenceDataset dataset) : dataset_(std::move(dataset)) {}

  const std::string& name() const override { return dataset_.name; }
  const std::vector<std::string>& class_names() const override { return dataset_.class_names; }
  std::int64_t size() const override { return std::ssize(dataset_.examples); }
  models::InputBounds bounds() const override;
  /// Of all tokens and labels.
  std::string fingerprint() const override;
  /// Throws InputError for a configuration that augments: sequences are trained on as they are.
  std::unique_ptr<data::Loader> training_loader(const TrainConfig& config,
                                                std::int64_t workers) const override;
  std::unique_ptr<data::Loader> evaluation_loader(std::int64_t batch_size,
                                                  std::int64_t workers) const override;
  data::Batch sample(std::int64_t count, std::uint64_t seed, std::int64_t draw) const override;

  const data::SequenceDataset& dataset() const { return dataset_; }

 private:
  data::SequenceDataset dataset_;
};

/// How pictures become the inputs of a model.
struct ImageView {
  std::int64_t size = 224;  ///< height and width
  data::EvaluationCrop crop = data::EvaluationCrop::kAuthors;
  /// Throws at a picture that cannot be read, which otherwise is left out of its batch.
  bool strict = false;
};

/// Pictures.
class ImageExamples : public Examples {
 public:
  ImageExamples(data::ImageDataset dataset, const ImageView& view)
      : dataset_(std::move(dataset)), view_(view) {}

  const std::string& name() const override { return dataset_.name; }
  const std::vector<std::string>& class_names() const override { return dataset_.class_names; }
  std::int64_t size() const override { return std::ssize(dataset_.labels); }
  models::InputBounds bounds() const override { return {.image_size = view_.size}; }
  /// Of the view, all labels and 64 pictures evenly spread.
  std::string fingerprint() const override;
  std::unique_ptr<data::Loader> training_loader(const TrainConfig& config,
                                                std::int64_t workers) const override;
  std::unique_ptr<data::Loader> evaluation_loader(std::int64_t batch_size,
                                                  std::int64_t workers) const override;
  data::Batch sample(std::int64_t count, std::uint64_t seed, std::int64_t draw) const override;

 private:
  data::ImageDataset dataset_;
  ImageView view_;
};

}  // namespace ecoformer::train
