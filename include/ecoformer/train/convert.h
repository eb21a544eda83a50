// From a dense model to an EcoFormer one: hash functions learned from the dense model's attention.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ecoformer/models/classifier.h"
#include "ecoformer/nn/hash_learner.h"
#include "ecoformer/nn/multi_head_attention.h"
#include "ecoformer/train/examples.h"

namespace ecoformer::train {

struct ConvertOptions {
  nn::Projection projection = nn::Projection::kUntied;
  /// Semantics, bandwidth, bits, supports and group_bits are read.
  nn::AttentionOptions attention;
  nn::HashLearnerOptions learner;
  std::int64_t examples = 32;  ///< random ones of the data to learn from
  std::uint64_t seed = 0;      ///< takes the place of the seeds in `attention` and `learner`
};

/// How well the codes of a head rank the dense model's true attention: means over sampled queries.
struct HeadReport {
  std::int64_t layer = 0;
  std::int64_t head = 0;
  double recall = 0;  ///< share of the dense model's 10 best keys among the 20 Hamming-nearest
  double chance_recall = 0;     ///< the same for keys in random order
  double pearson = 0;           ///< correlation of Hamming affinity and dense score q.k
  double spearman = 0;          ///< the same of their ranks
  std::optional<double> sigma;  ///< bandwidth, where it is frozen
  std::optional<double> beta;   ///< as fitted, with exponential semantics
};

struct Conversion {
  std::shared_ptr<models::Classifier> model;
  std::vector<HeadReport> heads;  ///< first layer first
};

/// The softmax form of a vision model with its original attention, in a new model with the same
/// weights; what only the original has, sub-sampling convolutions and their norms, is dropped, as
/// by the authors. Throws InputError if the attention is another.
std::shared_ptr<models::Classifier> to_softmax(const models::Classifier& original);

/// Builds an EcoFormer model with the weights of `dense`, which stays as it is: a model with
/// softmax attention, or one with original attention, which goes through `to_softmax` first.
///
/// `untied` keeps both projections; `tied` takes the query rows of a fused projection for queries
/// and keys, as the authors do, and drops the key rows. Hash functions are learned layer by layer
/// on the new model's own activations. With exponential semantics each head's beta minimises the
/// cross-entropy to the dense model's attention at that layer, on at most 256 queries a head.
///
/// Throws InputError: `dense` has another attention, or is tied where `untied` is wanted; options
/// out of range; data the model cannot read, or too little of it.
Conversion convert(const std::shared_ptr<models::Classifier>& dense, const Examples& data,
                   const ConvertOptions& options);

}  // namespace ecoformer::train
