// Conversion: copy the weights, then one pass of the dense model to see its attention and one of
// the new model to learn from its own activations.
#include "ecoformer/train/convert.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "ecoformer/base/error.h"
#include "ecoformer/io/state.h"
#include "train/beta_fit.h"
#include "train/eval_mode.h"
#include "train/learn_hashes.h"
#include "train/observers.h"

namespace ecoformer::train {
namespace {

constexpr std::int64_t kMostRows = 256;

models::SequenceEncoderConfig converted_config(const models::SequenceEncoderConfig& dense,
                                               const ConvertOptions& options) {
  if (dense.attention.mechanism != "softmax") {
    throw InputError(fmt::format("convert: expected a model with softmax attention, got '{}'",
                                 dense.attention.mechanism));
  }
  if (dense.projection == nn::Projection::kTied && options.projection != dense.projection) {
    throw InputError(
        "convert: expected a model with separate query and key projections, got a tied one\n"
        "hint: convert it to tied projections");
  }
  models::SequenceEncoderConfig config = dense;
  config.projection = options.projection;
  config.attention = options.attention;
  config.attention.mechanism = "eco";
  config.attention.heads = dense.attention.heads;
  config.attention.dim = dense.attention.dim;
  config.attention.seed = options.seed;
  models::validate(config);
  return config;
}

/// The tensor of the new model's `name` in the dense state: its own, or its rows of a fused `qkv`.
torch::Tensor dense_tensor(const std::map<std::string, at::Tensor>& dense,
                           const std::string& name) {
  if (const auto same = dense.find(name); same != dense.end()) return same->second;
  for (const auto& [part, third] : {std::pair{".to_qk.", 0}, std::pair{".to_v.", 2}}) {
    const std::size_t at = name.find(part);
    if (at == std::string::npos) continue;
    std::string fused = name;
    fused.replace(at, std::string(part).size(), ".qkv.");
    if (const auto found = dense.find(fused); found != dense.end()) {
      return found->second.chunk(3)[static_cast<std::size_t>(third)];
    }
  }
  throw Error(
      fmt::format("convert: expected the dense model to have '{}', got no such tensor", name));
}

/// Copies all but the state of the mechanism, which a dense model has none of.
void copy_weights(const torch::nn::Module& dense, torch::nn::Module& converted) {
  const torch::NoGradGuard no_grad;
  const std::map<std::string, at::Tensor> state = io::state_of(dense);
  for (const auto& [name, tensor] : io::state_of(converted)) {
    if (name.find(".fast_attention.") == std::string::npos) tensor.copy_(dense_tensor(state, name));
  }
}

/// Query positions of each sequence, evenly spread, the same for all layers and heads.
std::vector<torch::Tensor> sample_queries(const torch::Tensor& mask) {
  const std::int64_t sequences = mask.size(0);
  const std::int64_t quota = std::max<std::int64_t>(1, kMostRows / sequences);
  std::vector<torch::Tensor> positions;
  for (std::int64_t b = 0; b < std::min(sequences, kMostRows); ++b) {
    const torch::Tensor real = mask[b].nonzero().squeeze(-1);
    const std::int64_t count = std::min(quota, real.size(0));
    // Midpoints of `count` equal parts; in integers, so that no rounding matters.
    const torch::Tensor picks = torch::arange(count, torch::kInt64)
                                    .mul(2)
                                    .add(1)
                                    .mul(real.size(0))
                                    .div(2 * std::max<std::int64_t>(count, 1), "floor");
    positions.push_back(real.index_select(0, picks));
  }
  return positions;
}

/// The scores q.k / sqrt(D) of the sampled queries: [H, R, N].
torch::Tensor sampled_scores(const torch::Tensor& q, const torch::Tensor& k,
                             const std::vector<torch::Tensor>& positions) {
  std::vector<torch::Tensor> scores;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const auto b = static_cast<std::int64_t>(i);
    scores.push_back(q[b].index_select(1, positions[i]).matmul(k[b].transpose(1, 2)));
  }
  return torch::cat(scores, 1).div(std::sqrt(static_cast<double>(q.size(-1))));
}

/// Each layer's sampled scores in a pass of the dense model over `batch`.
std::vector<torch::Tensor> dense_scores(models::SequenceEncoder dense, const data::Batch& batch,
                                        const std::vector<torch::Tensor>& positions) {
  const torch::NoGradGuard no_grad;
  const EvalMode eval_mode(*dense);
  const Observers observers(dense->attentions());
  std::vector<torch::Tensor> scores(observers.layers().size());
  for (std::size_t layer = 0; layer < scores.size(); ++layer) {
    observers.layers()[layer]->observe(
        [&scores, &positions, layer](const torch::Tensor& q, const torch::Tensor& k,
                                     const torch::Tensor&, const nn::Masks&) {
          scores[layer] = sampled_scores(q, k, positions);
        });
  }
  dense->forward(batch.inputs, batch.mask);
  return scores;
}

/// Hamming distances by group of the sampled queries of one head: uint8 [R, N, G].
torch::Tensor sampled_distances(const torch::Tensor& query_codes, const torch::Tensor& key_codes,
                                std::int64_t head, const std::vector<torch::Tensor>& positions,
                                std::int64_t bits, std::int64_t group_bits) {
  const std::int64_t groups = (bits + group_bits - 1) / group_bits;
  const std::uint64_t group_mask = (std::uint64_t{1} << group_bits) - 1;
  std::vector<torch::Tensor> distances;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const auto b = static_cast<std::int64_t>(i);
    const torch::Tensor queries = query_codes[b][head].index_select(0, positions[i]).contiguous();
    const torch::Tensor keys = key_codes[b][head].contiguous();
    torch::Tensor piece = torch::empty({queries.size(0), keys.size(0), groups}, torch::kUInt8);
    auto* out = piece.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t r = 0; r < queries.size(0); ++r) {
      const auto query = static_cast<std::uint64_t>(queries.const_data_ptr<std::int64_t>()[r]);
      for (std::int64_t j = 0; j < keys.size(0); ++j) {
        const auto key = static_cast<std::uint64_t>(keys.const_data_ptr<std::int64_t>()[j]);
        for (std::int64_t g = 0; g < groups; ++g) {
          const std::uint64_t differing = ((query ^ key) >> (g * group_bits)) & group_mask;
          *out++ = static_cast<std::uint8_t>(std::popcount(differing));
        }
      }
    }
    distances.push_back(piece);
  }
  return torch::cat(distances, 0);
}

/// The key mask of each sampled query: [R, N].
torch::Tensor sampled_mask(const torch::Tensor& mask, const std::vector<torch::Tensor>& positions) {
  std::vector<torch::Tensor> rows;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    rows.push_back(
        mask[static_cast<std::int64_t>(i)].unsqueeze(0).expand({positions[i].size(0), -1}));
  }
  return torch::cat(rows, 0);
}

}  // namespace

Conversion convert(models::SequenceEncoder dense, const data::SequenceDataset& data,
                   const ConvertOptions& options) {
  if (options.sequences < 1) {
    throw InputError(fmt::format("convert: expected at least one sequence to learn from, got {}",
                                 options.sequences));
  }
  Conversion conversion{
      .model = models::SequenceEncoder(converted_config(dense->config(), options), options.seed),
      .heads = {}};
  copy_weights(*dense, *conversion.model);

  const data::Batch batch = learning_batch(data, options.sequences, options.seed, /*draw=*/0);
  const std::vector<torch::Tensor> positions = sample_queries(batch.mask);
  const torch::Tensor mask = sampled_mask(batch.mask, positions);
  const std::vector<torch::Tensor> scores = dense_scores(dense, batch, positions);

  nn::HashLearnerOptions learner = options.learner;
  learner.seed = options.seed;
  const auto fit_and_report = [&](std::size_t layer, nn::EcoAttention& attention,
                                  const torch::Tensor& q, const torch::Tensor& k,
                                  const nn::Masks& masks) {
    const nn::AttentionOptions& eco = attention.options();
    const torch::Tensor query_codes = attention.ksh->encode(q, masks.queries);
    const torch::Tensor key_codes = attention.ksh->encode(k, masks.keys);
    for (std::int64_t head = 0; head < eco.heads; ++head) {
      const AttentionRows rows{.scores = scores[layer][head],
                               .mask = mask,
                               .distances = sampled_distances(query_codes, key_codes, head,
                                                              positions, eco.bits, eco.group_bits)};
      const RankQuality quality = rank_quality(rows);
      HeadReport report{.layer = static_cast<std::int64_t>(layer),
                        .head = head,
                        .recall = quality.recall,
                        .chance_recall = quality.chance_recall,
                        .pearson = quality.pearson,
                        .spearman = quality.spearman,
                        .sigma = {},
                        .beta = {}};
      if (attention.ksh->sigma.defined()) {
        report.sigma = attention.ksh->sigma[head].item<double>();
      }
      if (attention.beta.defined()) {
        report.beta = fit_beta(rows);
        attention.beta[head].fill_(*report.beta);
      }
      conversion.heads.push_back(report);
    }
  };
  learn_hashes(conversion.model, batch, learner, /*only_unlearned=*/false, fit_and_report);
  return conversion;
}

}  // namespace ecoformer::train
