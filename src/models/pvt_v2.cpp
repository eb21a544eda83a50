// PVTv2: its plan, its configuration and the names of its state.

#include "ecoformer/models/pvt_v2.h"

#include <torch/torch.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "models/pyramid_config.h"
#include "models/pyramid_layers.h"

namespace ecoformer::models {
namespace {

constexpr auto kFields = [](auto& config, const auto& visit) {
  visit_pyramid(config, visit);
  visit("linear", config.linear);
  visit("fused_last", config.fused_last);
};

}  // namespace

PvtV2Config::PvtV2Config() {
  widths = {32, 64, 160, 256};
  depths = {2, 2, 2, 2};
  heads = {1, 2, 5, 8};
  mlp_ratios = {8, 8, 4, 4};
  sr_ratios = {8, 4, 2, 1};
}

nlohmann::json to_json(const PvtV2Config& config) {
  return write_config(config, kFields);
}

PvtV2Config pvt_v2_config_from_json(const nlohmann::json& given) {
  const PvtV2Config config = read_config(given, PvtV2Config(), kFields);
  validate(config);
  return config;
}

PyramidPlan plan(const PvtV2Config& config) {
  validate(config);
  const bool original = config.attention.mechanism == kOriginalAttention;
  PyramidPlan model{.classes = config.classes,
                    .stage_norms = true,
                    .depthwise_mlp = true,
                    .relu_mlp = config.linear};
  for (std::size_t s = 0; s < config.widths.size(); ++s) {
    StagePlan& stage = model.stages.emplace_back(plan_stage(config, s));
    stage.kernel = s == 0 ? 7 : 3;
    stage.stride = s == 0 ? 4 : 2;
    stage.padding = stage.kernel / 2;
    const bool last = s + 1 == config.widths.size();
    if (!original || (last && config.fused_last)) continue;
    for (BlockPlan& block : stage.blocks) {
      block.kind = BlockPlan::Kind::kSubSampled;
      block.pooled = config.linear;
      block.reduction = config.linear ? 1 : config.sr_ratios[s];
    }
  }
  return model;
}

PvtV2Impl::PvtV2Impl(PvtV2Config config, std::uint64_t seed)
    : PyramidImpl(plan(config), config, seed), config_(std::move(config)) {
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    const std::string number = std::to_string(s + 1);
    register_module("patch_embed" + number, stages_[s].embed);
    auto blocks = register_module("block" + number, torch::nn::ModuleList());
    for (const auto& block : stages_[s].blocks) blocks->push_back(block);
    register_module("norm" + number, stages_[s].norm);
  }
  register_module("head", head_);
  initialise(seed);
}

nlohmann::json PvtV2Impl::config_json() const {
  return to_json(config_);
}

}  // namespace ecoformer::models
