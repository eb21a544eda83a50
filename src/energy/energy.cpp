// The two countings. Every formula stands beside the loop it counts.

#include "ecoformer/energy/energy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "ecoformer/base/error.h"
#include "ecoformer/kernels/codes.h"
#include "ecoformer/models/classifier.h"
#include "ecoformer/models/pvt_v2.h"
#include "ecoformer/models/twins.h"
#include "ecoformer/nn/hamming_attention.h"

namespace ecoformer::energy {
namespace {

/// n multiplications and n additions: multiply-adds.
Operations multiply_adds(std::int64_t n) {
  return {.multiplications = n, .additions = n};
}

/// Replaces exponentials and divisions by what they are charged as.
Operations charged(const Operations& o) {
  return Operations{.multiplications = o.multiplications, .additions = o.additions} +
         o.exponentials * kExponentialCost + o.divisions * kDivisionCost;
}

/// A linear layer on `rows` rows; a bias takes the addition that the first product does not need.
Operations linear(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  return multiply_adds(rows * inputs * outputs);
}

/// LayerNorm of `rows` rows of C channels.
Operations layer_norm(std::int64_t rows, std::int64_t width, Counting counting) {
  if (counting == Counting::kPublished) return multiply_adds(2 * rows * width);
  // A channel: sum, centre, square and sum, scale, gamma and beta. A row: mean, variance + eps,
  // 1/sqrt.
  return rows *
         Operations{.multiplications = 3 * width + 2, .additions = 4 * width + 1, .divisions = 1};
}

/// x/2 (1 + erf(x / sqrt 2)) with LibTorch's vectorised erf: a polynomial of degree 5 in 1 / (1 + p
/// x) times exp(-x^2).
constexpr Operations kGelu{
    .multiplications = 11, .additions = 7, .exponentials = 1, .divisions = 1};

/// A convolution of C_in channels with a k x k kernel on `pixels` outputs. `published` adds a
/// multiplication and an addition an output for the bias; else it takes the addition that the first
/// product does not need.
Operations convolution(std::int64_t pixels, std::int64_t kernel, std::int64_t inputs,
                       std::int64_t outputs, std::int64_t groups, Counting counting) {
  const std::int64_t bias = counting == Counting::kPublished ? pixels * outputs : 0;
  return multiply_adds(pixels * kernel * kernel * (inputs / groups) * outputs + bias);
}

/// What a layer does on `n` elements that `published` leaves out.
Operations only_counted(std::int64_t n, const Operations& operations, Counting counting) {
  return counting == Counting::kPublished ? Operations{} : n * operations;
}

constexpr Operations kAddition{.additions = 1};

/// One layer's attention of `queries` tokens to `keys`, without projections.
Operations attention_of(const nn::AttentionOptions& options, nn::Projection projection,
                        std::int64_t queries, std::int64_t keys, Counting counting) {
  const bool published = counting == Counting::kPublished;
  if (options.mechanism == "softmax") {
    return published ? published_softmax_attention(queries, keys, options.heads, options.dim)
                     : counted_softmax_attention(queries, keys, options.heads, options.dim);
  }
  if (options.mechanism == "eco") {
    return published ? published_eco_attention(queries, options.heads, options.dim, options.bits,
                                               options.supports)
                     : counted_eco_attention(queries, options, projection);
  }
  throw InputError(
      fmt::format("energy: expected attention softmax or eco, got '{}'", options.mechanism));
}

/// Outputs a token of the projections before attention, in units of its width.
std::int64_t projected(nn::Projection projection) {
  return projection == nn::Projection::kTied ? 2 : 3;
}

std::string attention_name(const nn::AttentionOptions& attention) {
  return attention.mechanism == "eco" ? "eco-" + nn::to_string(attention.semantics)
                                      : attention.mechanism;
}

/// A layer's attention and what surrounds it.
struct AttentionLayer {
  Operations attention;
  Operations rest;  ///< projections, and the reduction of the map
};

/// Average pooling of a map to 7 x 7 (LibTorch's adaptive_avg_pool2d): cell i sums from
/// floor(i side / 7) to ceil((i + 1) side / 7) on either side, and divides by both extents.
Operations adaptive_pooling(models::MapSize map, std::int64_t side, std::int64_t width) {
  const auto extents = [&](std::int64_t length) {
    std::int64_t total = 0;
    for (std::int64_t i = 0; i < side; ++i) {
      total += ((i + 1) * length + side - 1) / side - i * length / side;
    }
    return total;
  };
  return width * Operations{.additions = extents(map.height) * extents(map.width),
                            .divisions = 2 * side * side};
}

/// The map that keys and values come from, and what making it takes.
std::pair<std::int64_t, Operations> reduced_map(const models::BlockPlan& block, models::MapSize map,
                                                std::int64_t width, Counting counting) {
  models::MapSize reduced = map;
  Operations made;
  if (block.pooled) {
    reduced = {models::kPooledSide, models::kPooledSide};
    if (counting == Counting::kCounted) {
      made = adaptive_pooling(map, models::kPooledSide, width) + reduced.tokens() * width * kGelu;
    }
  } else if (block.reduction > 1) {
    reduced = {map.height / block.reduction, map.width / block.reduction};
  } else {
    return {map.tokens(), made};
  }
  const std::int64_t keys = reduced.tokens();
  return {keys, made + convolution(keys, block.reduction, width, width, 1, counting) +
                    layer_norm(keys, width, counting)};
}

AttentionLayer attention_layer(const models::BlockPlan& block, models::MapSize map,
                               std::int64_t width, Counting counting) {
  using Kind = models::BlockPlan::Kind;
  const std::int64_t n = map.tokens();
  const auto attend = [&](std::int64_t queries, std::int64_t keys) {
    return attention_of(block.attention, block.projection, queries, keys, counting);
  };
  switch (block.kind) {
    case Kind::kSubSampled: {
      const auto [keys, reduction] = reduced_map(block, map, width, counting);
      return {attend(n, keys), linear(n, width, width) + reduction +
                                   linear(keys, width, 2 * width) + linear(n, width, width)};
    }
    case Kind::kWindow: {
      // Padded to whole windows, and computed there too.
      const auto windows = [&](std::int64_t side) {
        return (side + block.window - 1) / block.window;
      };
      const std::int64_t total = windows(map.height) * windows(map.width);
      const std::int64_t tokens = block.window * block.window;
      return {total * attend(tokens, tokens),
              linear(total * tokens, width, projected(block.projection) * width) +
                  linear(total * tokens, width, width)};
    }
    case Kind::kDense:
      break;
  }
  return {attend(n, n),
          linear(n, width, projected(block.projection) * width) + linear(n, width, width)};
}

/// Counts an image through a pyramid into `row`.
void count_pyramid(const models::PyramidPlan& plan, models::MapSize image, Row& row) {
  const Counting counting = row.counting;
  const std::vector<models::MapSize> maps = models::stage_maps(plan, image);
  Operations total;
  for (std::size_t s = 0; s < maps.size(); ++s) {
    const models::StagePlan& stage = plan.stages[s];
    const std::int64_t n = maps[s].tokens();
    const std::int64_t width = stage.width;
    const Operations depthwise_of_width = convolution(n, 3, width, width, width, counting);
    total = total + convolution(n, stage.kernel, stage.inputs, width, 1, counting) +
            layer_norm(n, width, counting);
    Operations mlp = linear(n, width, stage.mlp_width) + linear(n, stage.mlp_width, width) +
                     only_counted(n * stage.mlp_width, kGelu, counting);
    if (plan.depthwise_mlp) {
      mlp = mlp + convolution(n, 3, stage.mlp_width, stage.mlp_width, stage.mlp_width, counting);
    }
    for (const models::BlockPlan& block : stage.blocks) {
      const AttentionLayer layer = attention_layer(block, maps[s], width, counting);
      row.attention_operations = row.attention_operations + layer.attention;
      total = total + 2 * layer_norm(n, width, counting) + layer.attention + layer.rest + mlp +
              only_counted(2 * n * width, kAddition, counting);
    }
    if (plan.position_conv) {
      total = total + depthwise_of_width + only_counted(n * width, kAddition, counting);
    }
    const bool last = s + 1 == maps.size();
    if (plan.stage_norms || last) total = total + layer_norm(n, width, counting);
    if (last) {
      total = total + linear(1, width, plan.classes) +
              only_counted(width, {.additions = n, .divisions = 1}, counting);  // mean
    }
  }
  row.tokens = maps.front().tokens();
  row.operations = total;
}

/// How self-attention of n tokens splits its codes.
kernels::CodeLayout used_layout(std::int64_t n, const nn::AttentionOptions& o) {
  return {.bits = static_cast<int>(o.bits),
          .group_bits = static_cast<int>(nn::used_group_bits(o.semantics, o.group_bits, 2 * n))};
}

}  // namespace

Operations operator+(const Operations& a, const Operations& b) {
  return {.multiplications = a.multiplications + b.multiplications,
          .additions = a.additions + b.additions,
          .exponentials = a.exponentials + b.exponentials,
          .divisions = a.divisions + b.divisions};
}

Operations operator*(std::int64_t times, const Operations& o) {
  return {.multiplications = times * o.multiplications,
          .additions = times * o.additions,
          .exponentials = times * o.exponentials,
          .divisions = times * o.divisions};
}

double energy_mj(const Operations& operations) {
  const Operations o = charged(operations);
  return (kMultiplyPicojoule * static_cast<double>(o.multiplications) +
          kAddPicojoule * static_cast<double>(o.additions)) *
         1e-9;
}

double area_mm2(const Operations& operations) {
  const Operations o = charged(operations);
  return (kMultiplyArea * static_cast<double>(o.multiplications) +
          kAddArea * static_cast<double>(o.additions)) *
         1e-6;
}

std::string to_string(Counting counting) {
  return counting == Counting::kPublished ? "published" : "counted";
}

Operations published_softmax_attention(std::int64_t queries, std::int64_t keys, std::int64_t heads,
                                       std::int64_t dim) {
  const std::int64_t pairs = heads * queries * keys;
  return {.multiplications = pairs * (2 * dim + 1), .additions = pairs * 2 * dim};
}

Operations published_eco_attention(std::int64_t n, std::int64_t heads, std::int64_t dim,
                                   std::int64_t bits, std::int64_t supports) {
  return heads * n *
         Operations{
             .multiplications = 2 * supports + supports * bits + bits + 1 + dim,
             .additions = 2 * supports * dim + supports * bits + 2 * bits + 2 * bits * dim + dim};
}

Operations counted_softmax_attention(std::int64_t queries, std::int64_t keys, std::int64_t heads,
                                     std::int64_t dim) {
  // A pair: the scaled score, its distance from the row's maximum, exp, the row's sum, the weighted
  // value. The row is divided once, by its inverse sum.
  const Operations pair =
      multiply_adds(2 * dim) + Operations{.multiplications = 1, .additions = 2, .exponentials = 1};
  const Operations row{.multiplications = dim, .divisions = 1};
  return heads * (queries * keys * pair + queries * row);
}

Operations counted_encode(std::int64_t n, const nn::AttentionOptions& o) {
  // |x|^2, summed in two halves, and 1 / |x|.
  const Operations norm = multiply_adds(o.dim) + Operations{.additions = 1, .divisions = 2};
  // x.s, x.s / (|x| sigma) - 1 / sigma, exp, k - mu.
  const Operations support =
      multiply_adds(o.dim) + Operations{.multiplications = 1, .additions = 2, .exponentials = 1};
  // 1 / (|x| sigma), and A (k - mu), whose sums start from 0 |x|^2. Signs are free.
  const Operations token = norm + o.supports * support + multiply_adds(o.bits * o.supports) +
                           Operations{.multiplications = 2};
  const Operations frozen = n * token + Operations{.divisions = 1};  // 1 / sigma
  if (o.bandwidth == nn::Bandwidth::kFrozen) return frozen;

  // sigma = 2 - 2 mean(x^).mean(s): the norms once more and the sum of unit tokens; once a head the
  // sum of supports, the product of both sums, and the rest of the formula.
  const Operations once = Operations{.additions = o.supports * o.dim} + multiply_adds(o.dim) +
                          Operations{.multiplications = 1, .additions = 1, .divisions = 1};
  return frozen + n * (norm + multiply_adds(o.dim)) + once;
}

Operations counted_tables(std::int64_t n, const nn::AttentionOptions& o) {
  const kernels::CodeLayout layout = used_layout(n, o);
  const std::int64_t groups = layout.groups();
  const std::int64_t columns = o.dim + 1;  // the values' channels and the weight

  const Operations accumulate{.additions = groups * columns};
  Operations gather{
      .multiplications = o.dim, .additions = groups + (groups - 1) * o.dim, .divisions = 1};
  if (o.semantics == nn::Semantics::kOfficial) gather = gather + multiply_adds(o.dim);  // own value

  Operations mix;
  for (int g = 0; g < layout.groups(); ++g) {
    const std::int64_t rows = layout.rows(g);
    const std::int64_t width = layout.width(g);
    if (o.semantics == nn::Semantics::kExponential) {
      // A multiply-add an element and bit; exp(-2 beta) for the values and for the weights.
      mix = mix + columns * multiply_adds(width * rows) +
            Operations{.multiplications = 2, .exponentials = 2};
    } else {
      // Halving takes 3 additions a pair of rows, rows - 1 pairs; the bias one multiplication;
      // doubling one addition a new row, and two a bit.
      mix =
          mix + columns * Operations{.multiplications = 1, .additions = 4 * (rows - 1) + 2 * width};
    }
  }
  const std::int64_t tables =
      std::max<std::int64_t>(1, (n + nn::kTableTokens - 1) / nn::kTableTokens);
  const Operations merge{.additions = (tables - 1) * layout.total_rows() * columns};
  return n * (accumulate + gather) + merge + mix;
}

Operations counted_pairs(std::int64_t n, const nn::AttentionOptions& o) {
  const kernels::CodeLayout layout = used_layout(n, o);
  const std::int64_t groups = layout.groups();
  const bool official = o.semantics == nn::Semantics::kOfficial;

  // A profile by distance, once for whole groups and once for the last, for the values and for the
  // weights.
  const auto profile = [&](std::int64_t width) {
    return o.semantics == nn::Semantics::kExponential
               ? Operations{.multiplications = 1 + width, .exponentials = 1}
               : Operations{.additions = width + 1, .divisions = 1};
  };
  const Operations profiles =
      2 * (profile(layout.width(0)) + profile(layout.width(layout.groups() - 1)));
  // The weight of a pair, where the values have another one that too, its sum, the weighted value.
  const Operations pair =
      Operations{.additions = (official ? 2 : 1) * (groups - 1) + 1} + multiply_adds(o.dim);
  Operations query{.multiplications = o.dim, .divisions = 1};
  if (official) query = query + multiply_adds(o.dim);  // own value
  return profiles + n * n * pair + n * query;
}

Operations counted_eco_attention(std::int64_t n, const nn::AttentionOptions& options,
                                 nn::Projection projection) {
  const std::int64_t hashes = projection == nn::Projection::kTied ? 1 : 2;
  const bool by_pairs = nn::attends_by_pairs(options.bits, used_layout(n, options).group_bits, n);
  return options.heads * (hashes * counted_encode(n, options) +
                          (by_pairs ? counted_pairs(n, options) : counted_tables(n, options)));
}

Row count(const models::SequenceEncoderConfig& config, std::int64_t n, Counting counting) {
  models::validate(config);
  if (n < 1 || n > config.positions) {
    throw InputError(fmt::format("energy: expected tokens in 1..{}, the model's positions, got {}",
                                 config.positions, n));
  }
  const std::int64_t width = config.width;
  nn::AttentionOptions options = config.attention;
  options.heads = config.heads;
  options.dim = width / config.heads;
  const Operations attention = attention_of(options, config.projection, n, n, counting);

  const Operations layer =
      2 * layer_norm(n, width, counting) + linear(n, width, projected(config.projection) * width) +
      attention + linear(n, width, width) + linear(n, width, config.mlp_width) +
      linear(n, config.mlp_width, width) + only_counted(n * config.mlp_width, kGelu, counting) +
      only_counted(2 * n * width, kAddition, counting);  // residuals
  const Operations rest = layer_norm(n, width, counting) + linear(1, width, config.head_width) +
                          linear(1, config.head_width, config.classes) +
                          only_counted(n * width, kAddition, counting) +  // positions
                          only_counted(width, {.additions = n, .divisions = 1}, counting);  // mean

  return {.model = "sequence_encoder",
          .attention = attention_name(config.attention),
          .counting = counting,
          .tokens = n,
          .operations = config.layers * layer + rest,
          .attention_operations = config.layers * attention};
}

Row count(const models::Architecture& architecture, models::MapSize input, Counting counting) {
  const auto& [type, config] = architecture;
  if (type == "sequence_encoder") {
    return count(models::sequence_encoder_config_from_json(config), input.tokens(), counting);
  }
  Row row;
  row.model = type;
  row.counting = counting;
  const auto count_image = [&](const auto& pyramid) {
    row.attention = attention_name(pyramid.attention);
    count_pyramid(plan(pyramid), input, row);
    return row;
  };
  if (type == "pvt_v2") return count_image(models::pvt_v2_config_from_json(config));
  if (type == "twins") return count_image(models::twins_config_from_json(config));
  throw InputError(fmt::format("energy: expected a model of type {}, got '{}'",
                               fmt::join(models::classifier_types(), ", "), type));
}

}  // namespace ecoformer::energy
