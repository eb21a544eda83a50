// What fixes a training run apart from the model and the data; stored with every checkpoint.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace ecoformer::train {

/// The defaults are the Nystromformer recipe for ListOps, with gradient clipping.
struct TrainConfig {
  std::int64_t steps = 5000;  ///< updates in all; also the length of the schedule
  std::int64_t batch_size = 32;

  double learning_rate = 1e-4;         ///< the schedule's peak
  std::string schedule = "one_cycle";  ///< or "warmup_cosine"; see schedule.h
  std::int64_t warmup_steps = 1000;
  double warmup_learning_rate = 0;  ///< warmup_cosine: the first rate
  double min_learning_rate = 0;     ///< warmup_cosine: the last rate

  /// AdamW. Decay applies to tensors of two and more dimensions (weights and embeddings), never to
  /// biases, norms and beta.
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-6;
  double clip_norm = 1;  ///< largest gradient norm; 0: no clipping
  double label_smoothing = 0;
  /// Share that an exponential moving average of the weights keeps of itself in a step; validation
  /// and the best checkpoint are then the average's. 0: no average.
  double ema_decay = 0;

  /// Of images; see data::ImageLoaderOptions.
  bool augment = false;
  bool mix = false;
  std::int64_t repeats = 1;

  std::int64_t log_every = 10;          ///< steps between lines of metrics
  std::int64_t eval_every = 200;        ///< steps between evaluations; 0: only after the last
  std::int64_t checkpoint_every = 200;  ///< steps between checkpoints; 0: only at the start and end

  /// Hash functions are learned before the first step where they have not been, and again every so
  /// many steps or epochs (tau in the paper); 0: never again. At most one of the two is set.
  std::int64_t relearn_every_steps = 0;
  std::int64_t relearn_every_epochs = 0;
  std::int64_t learning_examples = 32;  ///< training examples they are learned from
  /// See nn::HashLearnerOptions.
  std::int64_t hash_neighbours = 10;
  std::int64_t hash_iterations = 40;
  std::int64_t hash_query_sample = 4096;

  std::uint64_t seed = 0;  ///< of data order, dropout and hash learning
};

/// As a flat JSON object, and back: absent keys keep their defaults. Throws InputError naming the
/// key that is unknown, of a wrong type or out of range.
nlohmann::json to_json(const TrainConfig& config);
TrainConfig train_config_from_json(const nlohmann::json& json);

/// Throws InputError naming the first field that is out of range.
void validate(const TrainConfig& config);

/// The learning rate of the update that follows `step` finished ones.
double learning_rate_at(const TrainConfig& config, std::int64_t step);

}  // namespace ecoformer::train
