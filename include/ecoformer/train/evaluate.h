// Accuracy, loss and speed of a model on a data set.
#pragma once

#include <cstdint>
#include <optional>

#include "ecoformer/data/loader.h"
#include "ecoformer/models/classifier.h"

namespace ecoformer::train {

struct Evaluation {
  double accuracy = 0;
  double standard_error = 0;              ///< of the accuracy, sqrt(p (1 - p) / n)
  std::optional<double> top5_accuracy{};  ///< where there are more than 5 classes
  double loss = 0;                        ///< mean cross-entropy, in nats
  std::int64_t examples = 0;
  std::int64_t tokens = 0;   ///< real ones of sequences; 0 for images
  std::int64_t skipped = 0;  ///< examples that could not be read
  double seconds = 0;        ///< in the model, without waiting for data
  double ms_per_example = 0;
};

/// Runs `model`, without dropout, over one epoch of `loader`. Each example counts on its own, so
/// all but the times depends neither on how the loader makes its batches nor on the number of
/// threads, beyond the rounding of the model itself.
Evaluation evaluate(models::Classifier& model, data::Loader& loader);

}  // namespace ecoformer::train
