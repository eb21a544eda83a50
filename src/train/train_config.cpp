// The training configuration: its fields in JSON, and their ranges.
#include "ecoformer/train/train_config.h"

#include <cmath>

#include "ecoformer/train/schedule.h"
#include "train/json_fields.h"

namespace ecoformer::train {
namespace {

template <typename Config, typename Visitor>
void visit_fields(Config& config, Visitor& visit) {
  visit("steps", config.steps);
  visit("batch_size", config.batch_size);
  visit("learning_rate", config.learning_rate);
  visit("schedule", config.schedule);
  visit("warmup_steps", config.warmup_steps);
  visit("warmup_learning_rate", config.warmup_learning_rate);
  visit("min_learning_rate", config.min_learning_rate);
  visit("weight_decay", config.weight_decay);
  visit("beta1", config.beta1);
  visit("beta2", config.beta2);
  visit("epsilon", config.epsilon);
  visit("clip_norm", config.clip_norm);
  visit("label_smoothing", config.label_smoothing);
  visit("ema_decay", config.ema_decay);
  visit("augment", config.augment);
  visit("mix", config.mix);
  visit("repeats", config.repeats);
  visit("log_every", config.log_every);
  visit("eval_every", config.eval_every);
  visit("checkpoint_every", config.checkpoint_every);
  visit("relearn_every_steps", config.relearn_every_steps);
  visit("relearn_every_epochs", config.relearn_every_epochs);
  visit("learning_examples", config.learning_examples);
  visit("hash_neighbours", config.hash_neighbours);
  visit("hash_iterations", config.hash_iterations);
  visit("hash_query_sample", config.hash_query_sample);
  visit("seed", config.seed);
}

template <typename T>
void require(bool good, const char* name, const char* range, const T& value) {
  if (!good) {
    throw InputError(
        fmt::format("training configuration: expected '{}' {}, got {}", name, range, value));
  }
}

void at_least(std::int64_t least, const char* name, std::int64_t value) {
  require(value >= least, name, least == 0 ? ">= 0" : ">= 1", value);
}

void not_negative(const char* name, double value) {
  require(std::isfinite(value) && value >= 0, name, ">= 0", value);
}

void below_one(const char* name, double value) {
  require(value >= 0 && value < 1, name, "in [0, 1)", value);
}

}  // namespace

nlohmann::json to_json(const TrainConfig& config) {
  FieldWriter writer;
  visit_fields(config, writer);
  return writer.json();
}

TrainConfig train_config_from_json(const nlohmann::json& json) {
  TrainConfig config;
  FieldReader reader(json, "training configuration", FieldReader::Missing::kKeepDefault);
  visit_fields(config, reader);
  reader.refuse_unknown_keys();
  validate(config);
  return config;
}

void validate(const TrainConfig& config) {
  at_least(1, "steps", config.steps);
  at_least(1, "batch_size", config.batch_size);
  require(std::isfinite(config.learning_rate) && config.learning_rate > 0, "learning_rate", "> 0",
          config.learning_rate);
  require(config.schedule == "one_cycle" || config.schedule == "warmup_cosine", "schedule",
          "to be one_cycle or warmup_cosine", config.schedule);
  require(config.warmup_steps >= 0 && config.warmup_steps < config.steps, "warmup_steps",
          fmt::format("in [0, steps = {})", config.steps).c_str(), config.warmup_steps);
  not_negative("warmup_learning_rate", config.warmup_learning_rate);
  not_negative("min_learning_rate", config.min_learning_rate);
  not_negative("weight_decay", config.weight_decay);
  below_one("beta1", config.beta1);
  below_one("beta2", config.beta2);
  not_negative("epsilon", config.epsilon);
  not_negative("clip_norm", config.clip_norm);
  below_one("label_smoothing", config.label_smoothing);
  below_one("ema_decay", config.ema_decay);
  at_least(1, "repeats", config.repeats);
  at_least(1, "log_every", config.log_every);
  at_least(0, "eval_every", config.eval_every);
  at_least(0, "checkpoint_every", config.checkpoint_every);
  at_least(0, "relearn_every_steps", config.relearn_every_steps);
  at_least(0, "relearn_every_epochs", config.relearn_every_epochs);
  require(config.relearn_every_steps == 0 || config.relearn_every_epochs == 0,
          "relearn_every_epochs", "0 where relearn_every_steps is set",
          config.relearn_every_epochs);
  at_least(1, "learning_examples", config.learning_examples);
  at_least(1, "hash_neighbours", config.hash_neighbours);
  at_least(0, "hash_iterations", config.hash_iterations);
  at_least(1, "hash_query_sample", config.hash_query_sample);
}

double learning_rate_at(const TrainConfig& config, std::int64_t step) {
  if (config.schedule == "one_cycle") {
    return one_cycle(step, config.steps, config.warmup_steps, config.learning_rate);
  }
  return warmup_cosine(step, config.steps, config.warmup_steps, config.learning_rate,
                       config.warmup_learning_rate, config.min_learning_rate);
}

}  // namespace ecoformer::train
