// Our learner: spectral start, normalised ascent, binary acceptance. Works head by head on flat
// lists of real tokens; nothing it holds grows faster than the number of tokens.

#include "ecoformer/nn/hash_learner.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ecoformer/base/error.h"

namespace ecoformer::nn {
namespace {

using torch::Tensor;
using torch::indexing::Slice;

/// RMS of the projection y while a bit is being refined: where tanh(y / 2) is soft enough to have a
/// gradient and sharp enough to resemble a sign.
constexpr double kRefinementScale = 2.0;
/// RMS of the projection y that is stored: about two tokens in three lie in the straight-through
/// window.
constexpr double kStoredScale = 1.0;
/// Steps of the ascent on the unit sphere, first and last.
constexpr double kFirstStep = 0.3;
constexpr double kLastStep = 0.02;

Tensor unit_rows(const Tensor& x) {
  return x / x.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
}

/// The real tokens of all samples in one list, and which sample each is from.
struct TokenList {
  Tensor sample;  ///< [n] int64
  Tensor place;   ///< [n] int64, position within its sample

  explicit TokenList(const Tensor& x, const Tensor& mask) {
    const Tensor real = mask.defined() ? mask : torch::ones({x.size(0), x.size(2)}, torch::kBool);
    const auto index = real.nonzero();
    sample = index.select(1, 0).contiguous();
    place = index.select(1, 1).contiguous();
  }
  std::int64_t size() const { return sample.size(0); }
  /// [n, D] rows of head h.
  Tensor rows(const Tensor& x, std::int64_t h) const {
    return x.select(1, h).index({sample, place}).to(torch::kFloat32);
  }
  TokenList subset(const Tensor& chosen) const {
    TokenList list(*this);
    list.sample = sample.index({chosen});
    list.place = place.index({chosen});
    return list;
  }
};

/// Y of one head: for each sampled query, the rows (in the key list) of its l most and l least
/// similar keys.
struct Target {
  Tensor most;   ///< [n, l]
  Tensor least;  ///< [n, l]
};

Target find_target(const Tensor& q, const TokenList& queries, const Tensor& k,
                   const TokenList& keys, std::int64_t samples, std::int64_t neighbours) {
  Target target{torch::empty({queries.size(), neighbours}, torch::kInt64),
                torch::empty({queries.size(), neighbours}, torch::kInt64)};
  for (std::int64_t b = 0; b < samples; ++b) {
    const auto mine = queries.sample.eq(b).nonzero().squeeze(1);
    const auto theirs = keys.sample.eq(b).nonzero().squeeze(1);
    if (mine.size(0) == 0) continue;
    const auto columns = k.index({theirs});
    // Blocks of rows, so that scores never take more than a few megabytes.
    const std::int64_t block =
        std::max<std::int64_t>(1, (1 << 20) / std::max<std::int64_t>(1, theirs.size(0)));
    for (std::int64_t begin = 0; begin < mine.size(0); begin += block) {
      const auto rows = mine.index({Slice(begin, begin + block)});
      const auto scores = torch::matmul(q.index({rows}), columns.t());
      target.most.index_put_({rows},
                             theirs.index({std::get<1>(scores.topk(neighbours, -1, true))}));
      target.least.index_put_({rows},
                              theirs.index({std::get<1>(scores.topk(neighbours, -1, false))}));
    }
  }
  return target;
}

/// Tokens of one head, sorted by sample, and what is known of each.
class Side {
 public:
  Side(const TokenList& tokens, std::int64_t samples) : starts_(samples + 1, 0) {
    const auto sample = tokens.sample.accessor<std::int64_t, 1>();
    for (std::int64_t i = 0; i < tokens.size(); ++i) ++starts_[sample[i] + 1];
    std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
  }
  std::int64_t size() const { return starts_.back(); }
  /// The tokens of sample b are start(b) .. start(b + 1) - 1.
  std::int64_t start(std::int64_t b) const { return starts_[b]; }

  /// One learned bit of every token, +1 or -1.
  void add(const Tensor& code) { codes_.push_back(code.contiguous()); }
  const std::vector<Tensor>& codes() const { return codes_; }

 private:
  std::vector<std::int64_t> starts_;
  std::vector<Tensor> codes_;  ///< [n] each
};

/// h_q^T (b Y - sum_t hq_t hk_t^T) h_k of one head, its gradient, and its quadratic form on
/// projections. Plain loops: these run some hundred times a bit, on lists that are too short for
/// what a tensor operation costs to call.
class Residue {
 public:
  Residue(Target target, const TokenList& queries, const TokenList& keys, std::int64_t samples,
          std::int64_t bits)
      : target_(std::move(target)),
        samples_(samples),
        bits_(static_cast<float>(bits)),
        queries_(queries, samples),
        keys_(keys, samples) {}

  /// Gradient by the query side: R p_k, [n_q].
  Tensor times_keys(const Tensor& key_side) const {
    const Tensor result = torch::empty({queries_.size()});
    float* out = result.mutable_data_ptr<float>();
    const float* p = key_side.const_data_ptr<float>();
    for_each_query([&](std::int64_t i, const std::int64_t* most, const std::int64_t* least) {
      float near = 0;
      for (std::int64_t c = 0; c < neighbours(); ++c) near += p[most[c]] - p[least[c]];
      out[i] = bits_ * near;
    });
    subtract_overlap(queries_, keys_, p, out);
    return result;
  }

  /// Gradient by the key side: R^T p_q, [n_k].
  Tensor times_queries(const Tensor& query_side) const {
    const Tensor result = torch::zeros({keys_.size()});
    float* out = result.mutable_data_ptr<float>();
    const float* p = query_side.const_data_ptr<float>();
    for_each_query([&](std::int64_t i, const std::int64_t* most, const std::int64_t* least) {
      const float spread = bits_ * p[i];
      for (std::int64_t c = 0; c < neighbours(); ++c) {
        out[most[c]] += spread;
        out[least[c]] -= spread;
      }
    });
    subtract_overlap(keys_, queries_, p, out);
    return result;
  }

  /// Kq^T R Kk, [m, m].
  Tensor quadratic(const Tensor& query_kernel, const Tensor& key_kernel) const {
    const auto m = key_kernel.size(1);
    const Tensor near = torch::zeros({queries_.size(), m});
    float* rows = near.mutable_data_ptr<float>();
    const float* kernel = key_kernel.const_data_ptr<float>();
    for_each_query([&](std::int64_t i, const std::int64_t* most, const std::int64_t* least) {
      float* row = rows + i * m;
      for (std::int64_t c = 0; c < neighbours(); ++c) {
        const float* plus = kernel + most[c] * m;
        const float* minus = kernel + least[c] * m;
        for (std::int64_t j = 0; j < m; ++j) row[j] += plus[j] - minus[j];
      }
    });
    auto form = bits_ * query_kernel.t().matmul(near);
    for (std::size_t t = 0; t < queries_.codes().size(); ++t) {
      for (std::int64_t b = 0; b < samples_; ++b) {
        const auto sum = [&](const Side& side, const Tensor& side_kernel) {
          const Slice mine(side.start(b), side.start(b + 1));
          return side_kernel.index({mine}).t().mv(side.codes()[t].index({mine}));
        };
        form -= torch::outer(sum(queries_, query_kernel), sum(keys_, key_kernel));
      }
    }
    return form;
  }

  /// Subtracts a learned bit.
  void subtract(const Tensor& query_code, const Tensor& key_code) {
    queries_.add(query_code);
    keys_.add(key_code);
  }

 private:
  std::int64_t neighbours() const { return target_.most.size(1); }

  /// Calls body(i, most, least) for the neighbours of every query.
  template <typename Body>
  void for_each_query(const Body& body) const {
    const auto* most = target_.most.const_data_ptr<std::int64_t>();
    const auto* least = target_.least.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < queries_.size(); ++i) {
      body(i, most + i * neighbours(), least + i * neighbours());
    }
  }

  /// out -= sum_t h_t (h'_t . p) within each sample: the learned bits' part of R p, for p on the
  /// primed side.
  void subtract_overlap(const Side& side, const Side& other, const float* p, float* out) const {
    // Short float32 sums in lanes that the compiler vectorises.
    constexpr std::int64_t kLanes = 16;
    for (std::size_t t = 0; t < side.codes().size(); ++t) {
      const float* code = side.codes()[t].const_data_ptr<float>();
      const float* other_code = other.codes()[t].const_data_ptr<float>();
      for (std::int64_t b = 0; b < samples_; ++b) {
        float lanes[kLanes] = {};
        std::int64_t j = other.start(b);
        for (; j + kLanes <= other.start(b + 1); j += kLanes) {
          for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            lanes[lane] += other_code[j + lane] * p[j + lane];
          }
        }
        for (; j < other.start(b + 1); ++j) lanes[0] += other_code[j] * p[j];
        const float sum = std::accumulate(lanes, lanes + kLanes, 0.0F);
        for (std::int64_t i = side.start(b); i < side.start(b + 1); ++i) out[i] -= code[i] * sum;
      }
    }
  }

  Target target_;
  std::int64_t samples_;
  float bits_;
  Side queries_, keys_;
};

Tensor signs(const Tensor& y) {
  return torch::where(y > 0, 1.0F, -1.0F);
}

/// Weight of one bit, [m], and the codes it gives.
struct Bit {
  Tensor weight, query_code, key_code;
};

Bit learn_bit(const Residue& residue, const Tensor& query_kernel, const Tensor& key_kernel,
              const Tensor& whitening, std::int64_t iterations) {
  const auto m = whitening.size(0);
  // The relaxation without signs, max a^T Kq^T R Kk a at fixed projection energy, is an
  // eigenproblem.
  const auto form = residue.quadratic(query_kernel, key_kernel);
  const auto symmetric = whitening.t().matmul(form + form.t()).matmul(whitening);
  Tensor direction = std::get<1>(torch::linalg_eigh(symmetric / 2)).select(1, m - 1);

  Bit best;
  double best_objective = 0;
  for (std::int64_t step = 0; step <= iterations; ++step) {
    const auto weight = whitening.matmul(direction) * kRefinementScale;
    const auto query_y = query_kernel.matmul(weight);
    const auto key_y = key_kernel.matmul(weight);
    const auto query_code = signs(query_y);
    const auto key_code = signs(key_y);
    const double objective = query_code.dot(residue.times_keys(key_code)).item<double>();
    if (!best.weight.defined() || objective > best_objective) {
      best = {weight * (kStoredScale / kRefinementScale), query_code, key_code};
      best_objective = objective;
    }
    const auto query_soft = torch::tanh(query_y / 2);
    const auto key_soft = torch::tanh(key_y / 2);
    const auto query_grad = residue.times_keys(key_soft) * (1 - query_soft * query_soft);
    const auto key_grad = residue.times_queries(query_soft) * (1 - key_soft * key_soft);
    auto ascent =
        whitening.t().matmul(query_kernel.t().mv(query_grad) + key_kernel.t().mv(key_grad));
    ascent = ascent - direction * direction.dot(ascent);
    const double norm = ascent.norm().item<double>();
    if (!(norm > 0)) break;
    const double fraction =
        static_cast<double>(step) / static_cast<double>(std::max<std::int64_t>(1, iterations));
    const double length = kFirstStep * std::pow(kLastStep / kFirstStep, fraction);
    direction = direction + ascent * (length / norm);
    direction = direction / direction.norm();
  }
  return best;
}

}  // namespace

void HashLearner::learn(HashFunctionImpl& hash, const Tensor& q, const Tensor& k,
                        const Tensor& query_mask, const Tensor& key_mask) const {
  const torch::NoGradGuard no_grad;
  const auto [heads, dim, bits, supports, bandwidth] = hash.options();
  const auto samples = q.size(0);
  const auto neighbours = options_.neighbours;
  const bool tied = q.is_same(k);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(options_.seed);

  const TokenList keys(k, key_mask);
  TokenList queries(q, query_mask);
  if (keys.size() < supports) {
    throw Error(
        fmt::format("hash learner: expected at least as many real tokens as supports ({}), got {}\n"
                    "hint: learn from more samples or use fewer supports",
                    supports, keys.size()));
  }
  // A sample too short to have 2 l different neighbours cannot say what is similar.
  const auto lengths = torch::bincount(keys.sample, {}, samples);
  const auto usable = lengths.index({queries.sample}).ge(2 * neighbours).nonzero().squeeze(1);
  if (usable.size(0) == 0) {
    throw Error(
        fmt::format("hash learner: expected a sample of at least {} tokens (2 x {} neighbours), "
                    "got {}",
                    2 * neighbours, neighbours, lengths.max().item<std::int64_t>()));
  }
  auto chosen = usable;
  if (chosen.size(0) > options_.query_sample) {
    const auto order = torch::randperm(chosen.size(0), generator, torch::kInt64);
    chosen = std::get<0>(chosen.index({order.index({Slice(0, options_.query_sample)})}).sort());
  }
  const TokenList asking = queries.subset(chosen);
  const auto pool = tied ? keys.size() : keys.size() + queries.size();
  const auto drawn = torch::randperm(pool, generator, torch::kInt64).index({Slice(0, supports)});

  Tensor anchor = torch::empty_like(hash.anchor);
  Tensor mvec = torch::empty_like(hash.mvec);
  Tensor weight = torch::empty_like(hash.A);
  Tensor sigma = torch::empty({heads});
  for (std::int64_t h = 0; h < heads; ++h) {
    const Tensor key_tokens = keys.rows(k, h);
    const Tensor query_tokens = tied ? key_tokens : queries.rows(q, h);
    if (!key_tokens.isfinite().all().item<bool>() || !query_tokens.isfinite().all().item<bool>()) {
      throw Error("hash learner: expected finite tokens, got NaN or infinity");
    }
    const Tensor unit_keys = unit_rows(key_tokens);
    const Tensor unit_queries = tied ? unit_keys : unit_rows(query_tokens);
    const Tensor all = tied ? unit_keys : torch::cat({unit_keys, unit_queries});
    const Tensor support = all.index({drawn});

    const auto spread = (2 - 2 * all.mean(0).dot(support.mean(0))).item<float>();
    sigma[h] = std::max(spread, 1e-6F);
    const auto kernel_of = [&](const Tensor& unit) {
      return torch::exp((unit.matmul(support.t()) - 1) / sigma[h]);
    };
    const auto all_kernel = kernel_of(all);
    const auto mean = all_kernel.mean(0);
    const auto key_kernel = kernel_of(unit_keys) - mean;
    const auto query_kernel = kernel_of(unit_queries.index({chosen})) - mean;

    // Coordinates in which a unit vector gives projections of unit RMS.
    const auto centred = all_kernel - mean;
    auto energy = centred.t().matmul(centred) / static_cast<double>(all.size(0));
    energy = energy +
             torch::eye(supports) * (1e-4 * energy.trace() / static_cast<double>(supports) + 1e-12);
    const auto [values, vectors] = torch::linalg_eigh(energy);
    const auto whitening = vectors * values.clamp_min(1e-12).rsqrt().unsqueeze(0);

    // Similarity: the attention scores themselves; for tied tokens the cosine, as the authors.
    Residue residue(find_target(tied ? unit_queries.index({chosen}) : query_tokens.index({chosen}),
                                asking, tied ? unit_keys : key_tokens, keys, samples, neighbours),
                    asking, keys, samples, bits);
    for (std::int64_t r = 0; r < bits; ++r) {
      const Bit bit = learn_bit(residue, query_kernel, key_kernel, whitening, options_.iterations);
      residue.subtract(bit.query_code, bit.key_code);
      weight.index_put_({h, r}, bit.weight);
    }
    anchor.index_put_({0, h}, support);
    mvec.index_put_({0, h, 0}, mean);
  }
  hash.anchor.copy_(anchor);
  hash.mvec.copy_(mvec);
  hash.A.copy_(weight);
  if (hash.sigma.defined()) hash.sigma.copy_(sigma);
}

}  // namespace ecoformer::nn
