// Checks of a configuration, and sizes that follow from a plan.

#include "ecoformer/models/pyramid_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "ecoformer/nn/attention.h"
#include "models/config_fields.h"
#include "models/state_elements.h"

namespace ecoformer::models {
namespace {

void expect_list(const char* key, const std::vector<std::int64_t>& list, std::size_t stages,
                 std::int64_t least, std::int64_t most) {
  if (list.size() != stages) {
    throw InputError(fmt::format("model config: expected {} entries in '{}', one a stage, got {}",
                                 stages, key, list.size()));
  }
  for (const std::int64_t value : list) expect_range(key, value, least, most);
}

std::int64_t attention_elements(const BlockPlan& block, std::int64_t width) {
  if (block.kind != BlockPlan::Kind::kSubSampled) {
    return projection_elements(block.projection, width) + mechanism_elements(block.attention);
  }
  // q, kv and proj.
  std::int64_t total = 2 * linear_elements(width, width) + linear_elements(width, 2 * width);
  if (block.pooled || block.reduction > 1) {
    total += linear_elements(block.reduction * block.reduction * width, width) + 2 * width;
  }
  return total;
}

}  // namespace

void validate(const PyramidConfig& config) {
  constexpr std::size_t kMostStages = 8;
  if (config.widths.empty() || config.widths.size() > kMostStages) {
    throw InputError(fmt::format("model config: expected 1 to {} entries in 'widths', got {}",
                                 kMostStages, config.widths.size()));
  }
  const std::size_t stages = config.widths.size();
  expect_range("channels", config.channels, 1, 1 << 10);
  expect_range("classes", config.classes, 1, 1 << 20);
  expect_list("widths", config.widths, stages, 1, 1 << 13);
  expect_list("depths", config.depths, stages, 1, 1 << 8);
  expect_list("heads", config.heads, stages, 1, 1 << 10);
  expect_list("mlp_ratios", config.mlp_ratios, stages, 1, 16);
  expect_list("sr_ratios", config.sr_ratios, stages, 1, 64);
  for (std::size_t s = 0; s < stages; ++s) {
    expect_multiple("widths", config.widths[s], "heads", config.heads[s]);
  }
  expect_probability("drop_path", config.drop_path);
  validate_attention(config.attention);
  auto names = nn::attention_mechanisms();
  names.insert(names.begin(), kOriginalAttention);
  if (std::find(names.begin(), names.end(), config.attention.mechanism) == names.end()) {
    throw InputError(fmt::format("model config: expected 'attention' to be one of {}, got '{}'",
                                 fmt::join(names, ", "), config.attention.mechanism));
  }
}

std::vector<MapSize> stage_maps(const PyramidPlan& plan, MapSize image) {
  std::vector<MapSize> maps;
  MapSize size = image;
  for (const StagePlan& stage : plan.stages) {
    const auto convolved = [&](std::int64_t side) {
      return side + 2 * stage.padding < stage.kernel
                 ? 0
                 : (side + 2 * stage.padding - stage.kernel) / stage.stride + 1;
    };
    size = {convolved(size.height), convolved(size.width)};
    std::int64_t least = 1;
    for (const BlockPlan& block : stage.blocks) {
      if (!block.pooled) least = std::max(least, block.reduction);
    }
    if (size.height < least || size.width < least) {
      throw InputError(fmt::format(
          "image: expected a size that leaves {} x {} tokens or more for stage {}, got "
          "{} x {} pixels, which leave {} x {}",
          least, least, maps.size() + 1, image.height, image.width, size.height, size.width));
    }
    maps.push_back(size);
  }
  return maps;
}

std::int64_t state_elements(const PyramidPlan& plan) {
  const auto depthwise = [](std::int64_t width) { return linear_elements(9, width); };
  std::int64_t total = 0;
  for (const StagePlan& stage : plan.stages) {
    const std::int64_t width = stage.width;
    const std::int64_t hidden = stage.mlp_width;
    total += linear_elements(stage.kernel * stage.kernel * stage.inputs, width) + 2 * width;
    if (plan.position_conv) total += depthwise(width);
    if (plan.stage_norms) total += 2 * width;
    std::int64_t around =
        4 * width + linear_elements(width, hidden) + linear_elements(hidden, width);
    if (plan.depthwise_mlp) around += depthwise(hidden);
    for (const BlockPlan& block : stage.blocks) {
      total += around + attention_elements(block, width);
    }
  }
  const std::int64_t last = plan.stages.back().width;
  if (!plan.stage_norms) total += 2 * last;
  return total + linear_elements(last, plan.classes);
}

}  // namespace ecoformer::models
