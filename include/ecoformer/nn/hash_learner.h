// Learning hash functions from the attention itself, self-supervised (paper, section 4.2).
//
// Target Y: +1 for each query's l most similar keys, -1 for its l least similar, 0 elsewhere. Bits
// are learned one after another against the residue b Y - sum_t hq_t hk_t^T, which is never formed:
// Y is sparse, the rest has rank r, so memory is linear in N.
#pragma once

#include <torch/types.h>

#include <cstdint>

#include "ecoformer/nn/hash_function.h"

namespace ecoformer::nn {

/// How HashLearner learns. The defaults are ours; see docs/design.md for what they were chosen
/// from.
struct HashLearnerOptions {
  std::int64_t neighbours = 10;      ///< l
  std::int64_t iterations = 40;      ///< ascent steps a bit
  std::int64_t query_sample = 4096;  ///< most queries a head that Y has rows for
  std::uint64_t seed = 0;
};

/// Ours, the default: supports drawn from the whole batch, each bit started from the best linear
/// relaxation (a generalised eigenvector, as in the original KSH), refined by normalised ascent on
/// the sigmoid relaxation, and kept only where the binary objective did not fall.
class HashLearner {
 public:
  explicit HashLearner(HashLearnerOptions options) : options_(options) {}

  /// Sets supports, means, bandwidth and weights of `hash` from q [B, H, Nq, D] and k [B, H, Nk,
  /// D]. Similarity is q.k; for one tensor passed as both (tied) the cosine. Padded tokens (mask
  /// false) take no part. Throws Error, leaving `hash` as it was, if there are fewer real tokens
  /// than supports or than 2 l keys in every sample, or if a token is not finite.
  void learn(HashFunctionImpl& hash, const torch::Tensor& q, const torch::Tensor& k,
             const torch::Tensor& query_mask = {}, const torch::Tensor& key_mask = {}) const;

 private:
  HashLearnerOptions options_;
};

/// The authors' learner (hashing/ksh.py, train_hashing_weight_woeig), for parity: SGD with Nesterov
/// momentum on the relaxed loss, all heads accepted or refused together.
struct OfficialLearnerOptions {
  std::int64_t neighbours = 10;
  std::int64_t iterations = 100;
  double learning_rate = 5e-4;
  double momentum = 0.9;
};

/// Learns `hash` from tied tokens x [B, H, N, D] with the supports it is given, [1, H, m, D],
/// starting from the weights it holds. Throws Error if N < m or N < 2 l.
void learn_official(HashFunctionImpl& hash, const torch::Tensor& x, const torch::Tensor& support,
                    const OfficialLearnerOptions& options = {});

/// The authors' target, int8 [B, H, N, N]: +1 / -1 for the l most / least cosine-similar, else 0.
torch::Tensor official_affinity(const torch::Tensor& x, std::int64_t neighbours);

}  // namespace ecoformer::nn
