// Accuracy, loss and speed of a model on a data set.
#pragma once

#include <cstdint>

#include "ecoformer/data/loader.h"
#include "ecoformer/models/sequence_encoder.h"

namespace ecoformer::train {

struct Evaluation {
  double accuracy = 0;
  double standard_error = 0;  ///< of the accuracy, sqrt(p (1 - p) / n)
  double loss = 0;            ///< mean cross-entropy, in nats
  std::int64_t examples = 0;
  std::int64_t tokens = 0;  ///< real ones
  double seconds = 0;       ///< in the model, without waiting for data
  double ms_per_sequence = 0;
};

/// Runs `model`, without dropout, over one epoch of `loader`. Each sequence counts on its own, so
/// all but the times depends neither on how the loader makes its batches nor on the number of
/// threads, beyond the rounding of the model itself.
Evaluation evaluate(models::SequenceEncoder model, data::Loader& loader);

}  // namespace ecoformer::train
