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
#include "ecoformer/models/architecture.h"
#include "ecoformer/models/pyramid.h"
#include "ecoformer/models/state_names.h"
#include "train/beta_fit.h"
#include "train/eval_mode.h"
#include "train/learn_hashes.h"
#include "train/observers.h"

namespace ecoformer::train {
namespace {

constexpr std::int64_t kMostRows = 256;

std::string mechanism_of(const models::Classifier& model) {
  return model.config_json().at("attention").get<std::string>();
}

/// A model of another kind of attention with the weights of `dense`.
std::shared_ptr<models::Classifier> rebuilt(const models::Classifier& dense,
                                            const models::Architecture& architecture,
                                            std::uint64_t seed) {
  auto model = models::make_classifier(architecture.type, architecture.config, seed);
  io::load_state(*model, models::state_for(*model, io::state_of(dense)), "convert");
  return model;
}

models::Architecture converted_architecture(const models::Classifier& dense,
                                            const ConvertOptions& options) {
  models::Architecture architecture{.type = dense.type(), .config = dense.config_json()};
  if (mechanism_of(dense) != "softmax") {
    throw InputError(fmt::format("convert: expected a model with softmax attention, got '{}'",
                                 mechanism_of(dense)));
  }
  const std::string tied = to_string(nn::Projection::kTied);
  if (architecture.config.at("projection") == tied && to_string(options.projection) != tied) {
    throw InputError(
        "convert: expected a model with separate query and key projections, got a tied one\n"
        "hint: convert it to tied projections");
  }
  nn::AttentionOptions attention = options.attention;
  attention.mechanism = "eco";
  set_attention(architecture, attention, options.projection);
  return architecture;
}

/// The mask of a layer's tokens, those of `q`; images have none.
torch::Tensor mask_of(const torch::Tensor& q, const nn::Masks& masks) {
  return masks.queries.defined() ? masks.queries
                                 : torch::ones({q.size(0), q.size(2)}, torch::kBool);
}

/// Query positions of each example, evenly spread, the same for all heads.
std::vector<torch::Tensor> sample_queries(const torch::Tensor& mask) {
  const std::int64_t examples = mask.size(0);
  const std::int64_t quota = std::max<std::int64_t>(1, kMostRows / examples);
  std::vector<torch::Tensor> positions;
  for (std::int64_t b = 0; b < std::min(examples, kMostRows); ++b) {
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
std::vector<torch::Tensor> dense_scores(models::Classifier& dense, const data::Batch& batch) {
  const torch::NoGradGuard no_grad;
  const EvalMode eval_mode(dense);
  const Observers observers(dense.attentions());
  std::vector<torch::Tensor> scores(observers.layers().size());
  for (std::size_t layer = 0; layer < scores.size(); ++layer) {
    observers.layers()[layer]->observe(
        [&scores, layer](const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor&,
                         const nn::Masks& masks) {
          scores[layer] = sampled_scores(q, k, sample_queries(mask_of(q, masks)));
        });
  }
  dense.forward(batch.inputs, batch.mask);
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

std::shared_ptr<models::Classifier> to_softmax(const models::Classifier& original) {
  if (mechanism_of(original) != models::kOriginalAttention) {
    throw InputError(fmt::format("convert: expected a model with original attention, got '{}'",
                                 mechanism_of(original)));
  }
  models::Architecture architecture{.type = original.type(), .config = original.config_json()};
  architecture.config["attention"] = "softmax";
  return rebuilt(original, architecture, /*seed=*/0);
}

Conversion convert(const std::shared_ptr<models::Classifier>& given, const Examples& data,
                   const ConvertOptions& options) {
  if (options.examples < 1) {
    throw InputError(fmt::format("convert: expected at least one example to learn from, got {}",
                                 options.examples));
  }
  const bool original = mechanism_of(*given) == models::kOriginalAttention;
  const std::shared_ptr<models::Classifier> dense = original ? to_softmax(*given) : given;
  dense->require_takes(data.bounds());
  Conversion conversion{
      .model = rebuilt(*dense, converted_architecture(*dense, options), options.seed), .heads = {}};

  const data::Batch batch = data.sample(options.examples, options.seed, /*draw=*/0);
  const std::vector<torch::Tensor> scores = dense_scores(*dense, batch);

  nn::HashLearnerOptions learner = options.learner;
  learner.seed = options.seed;
  const auto fit_and_report = [&](std::size_t layer, nn::EcoAttention& attention,
                                  const torch::Tensor& q, const torch::Tensor& k,
                                  const nn::Masks& masks) {
    const nn::AttentionOptions& eco = attention.options();
    const torch::Tensor layer_mask = mask_of(q, masks);
    const std::vector<torch::Tensor> positions = sample_queries(layer_mask);
    const torch::Tensor mask = sampled_mask(layer_mask, positions);
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
  learn_hashes(*conversion.model, batch, learner, /*only_unlearned=*/false, fit_and_report);
  return conversion;
}

}  // namespace ecoformer::train
