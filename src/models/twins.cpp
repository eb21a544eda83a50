// Twins: its plan, its configuration and the names of its state.

#include "ecoformer/models/twins.h"

#include <torch/torch.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "models/pyramid_config.h"
#include "models/pyramid_layers.h"

namespace ecoformer::models {
namespace {

constexpr std::int64_t kMostWindow = 1 << 10;

constexpr auto kFields = [](auto& config, const auto& visit) {
  visit_pyramid(config, visit);
  visit("patch_size", config.patch_size);
  visit("windows", config.windows);
};

}  // namespace

TwinsConfig::TwinsConfig() {
  widths = {64, 128, 256, 512};
  depths = {2, 2, 10, 4};
  heads = {2, 4, 8, 16};
  mlp_ratios = {4, 4, 4, 4};
  sr_ratios = {8, 4, 2, 1};
  windows = {7, 7, 7, 7};
}

nlohmann::json to_json(const TwinsConfig& config) {
  return write_config(config, kFields);
}

TwinsConfig twins_config_from_json(const nlohmann::json& given) {
  const TwinsConfig config = read_config(given, TwinsConfig(), kFields);
  plan(config);
  return config;
}

PyramidPlan plan(const TwinsConfig& config) {
  validate(config);
  expect_range("patch_size", config.patch_size, 1, 64);
  if (!config.windows.empty() && config.windows.size() != config.widths.size()) {
    throw InputError(
        fmt::format("model config: expected no or {} entries in 'windows', one a stage, got {}",
                    config.widths.size(), config.windows.size()));
  }
  for (const std::int64_t window : config.windows) {
    expect_range("windows", window, 1, kMostWindow);
  }
  PyramidPlan model{.classes = config.classes, .position_conv = true};
  for (std::size_t s = 0; s < config.widths.size(); ++s) {
    StagePlan& stage = model.stages.emplace_back(plan_stage(config, s));
    stage.kernel = stage.stride = s == 0 ? config.patch_size : 2;
    if (config.attention.mechanism != kOriginalAttention) continue;
    for (std::size_t i = 0; i < stage.blocks.size(); ++i) {
      BlockPlan& block = stage.blocks[i];
      if (!config.windows.empty() && i % 2 == 0) {
        block.kind = BlockPlan::Kind::kWindow;
        block.window = config.windows[s];
      } else {
        block.kind = BlockPlan::Kind::kSubSampled;
        block.reduction = config.sr_ratios[s];
      }
    }
  }
  return model;
}

TwinsImpl::TwinsImpl(TwinsConfig config, std::uint64_t seed)
    : PyramidImpl(plan(config), config, seed), config_(std::move(config)) {
  auto embeds = register_module("patch_embeds", torch::nn::ModuleList());
  auto stages = register_module("blocks", torch::nn::ModuleList());
  auto positions = register_module("pos_block", torch::nn::ModuleList());
  for (const Stage& stage : stages_) {
    embeds->push_back(stage.embed);
    torch::nn::ModuleList blocks;
    for (const auto& block : stage.blocks) blocks->push_back(block);
    stages->push_back(blocks);
    positions->push_back(stage.position);
  }
  register_module("norm", norm_);
  register_module("head", head_);
  initialise(seed);
}

nlohmann::json TwinsImpl::config_json() const {
  return to_json(config_);
}

}  // namespace ecoformer::models
