// What the configurations of both families share beyond their fields.
#pragma once

#include "ecoformer/models/pyramid_plan.h"
#include "models/config_fields.h"

namespace ecoformer::models {

template <typename Config, typename Visit>
void visit_pyramid(Config& config, const Visit& visit) {
  visit("channels", config.channels);
  visit("classes", config.classes);
  visit("widths", config.widths);
  visit("depths", config.depths);
  visit("heads", config.heads);
  visit("mlp_ratios", config.mlp_ratios);
  visit("sr_ratios", config.sr_ratios);
  visit("drop_path", config.drop_path);
  visit_attention(config, visit);
}

/// The plan of stage `s` without its convolution: all blocks alike, dense with the mechanism of
/// `config`, or with softmax where that is `original` or the stage is the last.
inline StagePlan plan_stage(const PyramidConfig& config, std::size_t s) {
  StagePlan stage{.inputs = s == 0 ? config.channels : config.widths[s - 1],
                  .width = config.widths[s],
                  .mlp_width = config.mlp_ratios[s] * config.widths[s]};
  BlockPlan block{.attention = config.attention};
  block.attention.heads = config.heads[s];
  block.attention.dim = config.widths[s] / config.heads[s];
  if (config.attention.mechanism == kOriginalAttention || s + 1 == config.widths.size()) {
    block.attention.mechanism = "softmax";
  } else {
    block.projection = config.projection;
  }
  stage.blocks.assign(static_cast<std::size_t>(config.depths[s]), block);
  return stage;
}

}  // namespace ecoformer::models
