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

/// The neighbours to look for among the tokens of a layer. The tokens of an image are as many as
/// the architecture makes them, those of a sequence are the user's.
std::int64_t neighbours_among(const torch::Tensor& q, const torch::Tensor& mask,
                              std::int64_t supports, std::int64_t neighbours) {
  const std::int64_t tokens =
      mask.defined() ? mask.sum().item<std::int64_t>() : q.size(0) * q.size(2);
  const std::int64_t longest = mask.defined() ? mask.sum(-1).max().item<std::int64_t>() : q.size(2);
  const std::int64_t least = mask.defined() ? 2 * neighbours : 2;
  if (tokens < supports || longest < least) {
    throw InputError(fmt::format(
        "learn hash functions: expected at least {} tokens (supports) in all and {} (twice the "
        "neighbours) in one example, got {} and {}\nhint: use more or larger examples, or fewer "
        "supports or neighbours",
        supports, least, tokens, longest));
  }
  return std::min(neighbours, longest / 2);
}

}  // namespace

std::int64_t learn_hashes(models::Classifier& model, const data::Batch& batch,
                          const nn::HashLearnerOptions& options, bool only_unlearned,
                          const LearnedLayer& learned) {
  const torch::NoGradGuard no_grad;
  const EvalMode eval_mode(model);
  const Observers observers(model.attentions());
  std::int64_t count = 0;
  for (std::size_t layer = 0; layer < observers.layers().size(); ++layer) {
    auto* const eco = dynamic_cast<nn::EcoAttention*>(observers.layers()[layer].get());
    if (eco == nullptr || (only_unlearned && eco->ksh->is_learned())) continue;
    eco->observe([layer, eco, &options, &learned](const torch::Tensor& q, const torch::Tensor& k,
                                                  const torch::Tensor&, const nn::Masks& masks) {
      nn::HashLearnerOptions learning = options;
      learning.neighbours =
          neighbours_among(q, masks.queries, eco->options().supports, options.neighbours);
      nn::HashLearner(learning).learn(*eco->ksh, q, k, masks.queries, masks.keys);
      if (learned) learned(layer, *eco, q, k, masks);
    });
    ++count;
  }
  if (count > 0) model.forward(batch.inputs, batch.mask);
  return count;
}

}  // namespace ecoformer::train
