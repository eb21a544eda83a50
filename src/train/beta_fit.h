// Fitting the sharpness of exponential attention to a given attention, and judging codes by it.
#pragma once

#include <torch/types.h>

namespace ecoformer::train {

/// The attention of R queries of one head over their N keys: what codes should reproduce.
struct AttentionRows {
  torch::Tensor scores;     ///< float32 [R, N], before the softmax
  torch::Tensor mask;       ///< bool [R, N], true at real keys
  torch::Tensor distances;  ///< uint8 [R, N, G], Hamming distances by group of bits
};

/// The beta in [0, nn::kMaxBeta] that minimises the mean cross-entropy -sum_j p_j log(w_j / sum w),
/// p the softmax of the scores, w_j = sum_g exp(-2 beta distance_jg). The loss need not be convex:
/// the best point of a grid is refined by golden section, to about 1e-4.
double fit_beta(const AttentionRows& rows);

/// Means over rows of at least two keys; all 0 if there are none.
struct RankQuality {
  double recall = 0;         ///< share of the 10 best-scored keys among the 20 nearest
  double chance_recall = 0;  ///< the same for keys in random order
  double pearson = 0;        ///< correlation of negated distance and score
  double spearman = 0;       ///< the same of their ranks, ties averaged
};

/// How well total Hamming distances rank the keys of each row. Keys tied at the border of the 20
/// nearest count as often as a random choice among them would take them. A row without variance
/// correlates 0.
RankQuality rank_quality(const AttentionRows& rows);

}  // namespace ecoformer::train
