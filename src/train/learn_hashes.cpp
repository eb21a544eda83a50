// Hash learning through the attention layers' observers: a layer is observed before it attends, so
// the function learned there already serves the rest of the same pass.
#include "train/learn_hashes.h"

#include <fmt/format.h>

#include <algorithm>

#include "ecoformer/base/error.h"
#include "train/eval_mode.h"
#include "train/observers.h"

namespace ecoformer::train {
namespace {

void require_enough_tokens(const torch::Tensor& mask, std::int64_t supports,
                           std::int64_t neighbours) {
  const auto tokens = mask.sum().item<std::int64_t>();
  const auto longest = mask.sum(-1).max().item<std::int64_t>();
  if (tokens < supports || longest < 2 * neighbours) {
    throw InputError(fmt::format(
        "learn hash functions: expected at least {} tokens (supports) in all and {} (twice the "
        "neighbours) in one sequence, got {} and {}\nhint: use more or longer sequences, or fewer "
        "supports or neighbours",
        supports, 2 * neighbours, tokens, longest));
  }
}

}  // namespace

data::Batch learning_batch(const data::SequenceDataset& dataset, std::int64_t sequences,
                           std::uint64_t seed, std::int64_t draw) {
  data::SequenceLoader loader(
      dataset, {.batch_size = std::clamp<std::int64_t>(std::ssize(dataset.examples), 1, sequences),
                .seed = seed,
                .bucket = false,  // All lengths in one batch.
                .workers = 0});
  loader.start_epoch(draw);
  return *loader.next();
}

std::int64_t learn_hashes(models::SequenceEncoder model, const data::Batch& batch,
                          const nn::HashLearnerOptions& options, bool only_unlearned,
                          const LearnedLayer& learned) {
  const torch::NoGradGuard no_grad;
  const EvalMode eval_mode(*model);
  const Observers observers(model->attentions());
  const nn::HashLearner learner(options);
  std::int64_t count = 0;
  for (std::size_t layer = 0; layer < observers.layers().size(); ++layer) {
    auto* const eco = dynamic_cast<nn::EcoAttention*>(observers.layers()[layer].get());
    if (eco == nullptr || (only_unlearned && eco->ksh->is_learned())) continue;
    require_enough_tokens(batch.mask, eco->options().supports, options.neighbours);
    eco->observe([layer, eco, &learner, &learned](const torch::Tensor& q, const torch::Tensor& k,
                                                  const torch::Tensor&, const nn::Masks& masks) {
      learner.learn(*eco->ksh, q, k, masks.queries, masks.keys);
      if (learned) learned(layer, *eco, q, k, masks);
    });
    ++count;
  }
  if (count > 0) model->forward(batch.inputs, batch.mask);
  return count;
}

}  // namespace ecoformer::train
