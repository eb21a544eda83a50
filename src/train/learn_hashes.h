// Learning the hash functions of a whole model from its own activations, layer by layer.
#pragma once

#include <functional>

#include "ecoformer/data/loader.h"
#include "ecoformer/models/classifier.h"
#include "ecoformer/nn/hash_learner.h"

namespace ecoformer::train {

/// Sees a layer of EcoAttention right after its hash function was learned, before it attends.
using LearnedLayer =
    std::function<void(std::size_t layer, nn::EcoAttention& attention, const torch::Tensor& q,
                       const torch::Tensor& k, const nn::Masks& masks)>;

/// Learns the hash function of each EcoAttention from q and k of one evaluation pass over `batch`,
/// so that a layer already sees the hashed attention of those before it. Returns how many were
/// learned. Leaves functions that are learned alone if `only_unlearned`. On a map of fewer tokens
/// than two times the neighbours, every token is either a near or a far one. Throws InputError
/// where the batch has too few tokens.
std::int64_t learn_hashes(models::Classifier& model, const data::Batch& batch,
                          const nn::HashLearnerOptions& options, bool only_unlearned,
                          const LearnedLayer& learned = {});

}  // namespace ecoformer::train
