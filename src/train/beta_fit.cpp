// Row by row in parallel, rows added up in order: the same result for any number of threads.
#include "train/beta_fit.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "ecoformer/nn/hamming_attention.h"

namespace ecoformer::train {
namespace {

constexpr std::int64_t kMostDistance = 64;  // Codes have at most 64 bits.

/// sum over rows of `value(row)`, in row order.
template <typename Value>
double sum_rows(std::int64_t rows, const Value& value) {
  std::vector<double> values(static_cast<std::size_t>(rows));
  at::parallel_for(0, rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) values[static_cast<std::size_t>(r)] = value(r);
  });
  return std::accumulate(values.begin(), values.end(), 0.0);
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

/// Indices by falling value; equal values keep their order.
std::vector<std::size_t> order_of(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t i, std::size_t j) { return values[i] > values[j]; });
  return order;
}

/// Ranks by falling value, equal values sharing the mean of theirs.
std::vector<double> ranks_of(const std::vector<double>& values) {
  const std::vector<std::size_t> order = order_of(values);
  std::vector<double> ranks(values.size());
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (std::size_t i = begin; i < end; ++i) {
      ranks[order[i]] = static_cast<double>(begin + end - 1) / 2;
    }
    begin = end;
  }
  return ranks;
}

/// Share of the best-scored keys among the nearest, ties at the border shared out evenly.
double recall_of(const std::vector<double>& scores, const std::vector<double>& affinities,
                 std::size_t best, std::size_t near) {
  const double border = affinities[order_of(affinities)[near - 1]];
  double nearer = 0, tied = 0;
  for (const double affinity : affinities) {
    nearer += affinity > border ? 1 : 0;
    tied += affinity == border ? 1 : 0;
  }
  const double tie_share = (static_cast<double>(near) - nearer) / tied;
  const std::vector<std::size_t> by_score = order_of(scores);
  double found = 0;
  for (std::size_t i = 0; i < best; ++i) {
    const double affinity = affinities[by_score[i]];
    found += affinity > border ? 1 : affinity == border ? tie_share : 0;
  }
  return found / static_cast<double>(best);
}

}  // namespace

double fit_beta(const AttentionRows& rows) {
  const std::int64_t R = rows.scores.size(0), N = rows.scores.size(1), G = rows.distances.size(2);
  const torch::Tensor target = rows.scores.to(torch::kFloat64)
                                   .masked_fill(rows.mask.logical_not(), -INFINITY)
                                   .softmax(-1)
                                   .contiguous();
  const torch::Tensor mask = rows.mask.contiguous(), distances = rows.distances.contiguous();
  const double* const p = target.const_data_ptr<double>();
  const bool* const real = mask.const_data_ptr<bool>();
  const std::uint8_t* const d = distances.const_data_ptr<std::uint8_t>();

  const auto loss = [&](double beta) {
    std::array<double, kMostDistance + 1> weight{};
    for (std::size_t i = 0; i < weight.size(); ++i) {
      weight[i] = std::exp(-2 * beta * static_cast<double>(i));
    }
    return sum_rows(R, [&](std::int64_t r) {
      double sum = 0, cross = 0;
      for (std::int64_t j = r * N; j < (r + 1) * N; ++j) {
        if (!real[j]) continue;
        double w = 0;
        for (std::int64_t g = 0; g < G; ++g) w += weight[d[j * G + g]];
        sum += w;
        cross -= p[j] * std::log(w);
      }
      return sum > 0 ? cross + std::log(sum) : 0;
    });
  };

  constexpr int kIntervals = 25;
  constexpr double kInterval = nn::kMaxBeta / kIntervals;
  int best = 0;
  double least = INFINITY;
  for (int i = 0; i <= kIntervals; ++i) {
    const double value = loss(i * kInterval);
    if (value < least) {
      least = value;
      best = i;
    }
  }
  double low = std::max(best - 1, 0) * kInterval;
  double high = std::min(best + 1, kIntervals) * kInterval;
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  double left = high - ratio * (high - low), right = low + ratio * (high - low);
  double left_loss = loss(left), right_loss = loss(right);
  while (high - low > 1e-4) {
    if (left_loss <= right_loss) {
      high = right;
      right = left;
      right_loss = left_loss;
      left = high - ratio * (high - low);
      left_loss = loss(left);
    } else {
      low = left;
      left = right;
      left_loss = right_loss;
      right = low + ratio * (high - low);
      right_loss = loss(right);
    }
  }
  return (low + high) / 2;
}

RankQuality rank_quality(const AttentionRows& rows) {
  const std::int64_t R = rows.scores.size(0), N = rows.scores.size(1);
  const torch::Tensor scores = rows.scores.to(torch::kFloat64).contiguous();
  const torch::Tensor affinities = rows.distances.sum(-1).neg().to(torch::kFloat64).contiguous();
  const torch::Tensor mask = rows.mask.contiguous();
  std::vector<RankQuality> found(static_cast<std::size_t>(R));
  std::vector<std::uint8_t> counts(static_cast<std::size_t>(R));
  at::parallel_for(0, R, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      std::vector<double> score, affinity;
      for (std::int64_t j = r * N; j < (r + 1) * N; ++j) {
        if (!mask.const_data_ptr<bool>()[j]) continue;
        score.push_back(scores.const_data_ptr<double>()[j]);
        affinity.push_back(affinities.const_data_ptr<double>()[j]);
      }
      if (score.size() < 2) continue;
      const std::size_t best = std::min<std::size_t>(10, score.size());
      const std::size_t near = std::min<std::size_t>(20, score.size());
      counts[static_cast<std::size_t>(r)] = 1;
      found[static_cast<std::size_t>(r)] = {
          .recall = recall_of(score, affinity, best, near),
          .chance_recall = static_cast<double>(near) / static_cast<double>(score.size()),
          .pearson = correlation(affinity, score),
          .spearman = correlation(ranks_of(affinity), ranks_of(score))};
    }
  });
  const double n = std::max(1.0, std::accumulate(counts.begin(), counts.end(), 0.0));
  RankQuality mean;
  for (const RankQuality& row : found) {
    mean.recall += row.recall / n;
    mean.chance_recall += row.chance_recall / n;
    mean.pearson += row.pearson / n;
    mean.spearman += row.spearman / n;
  }
  return mean;
}

}  // namespace ecoformer::train
