// A pyramid's forward pass and weights, from its plan.

#include "ecoformer/models/pyramid.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "models/config_fields.h"
#include "models/pyramid_layers.h"

namespace ecoformer::models {
PyramidImpl::PyramidImpl(PyramidPlan plan, const PyramidConfig& config, std::uint64_t seed)
    : plan_(std::move(plan)) {
  std::int64_t blocks = 0;
  for (const StagePlan& stage : plan_.stages) blocks += std::ssize(stage.blocks);
  std::int64_t index = 0;
  for (const StagePlan& stage : plan_.stages) {
    Stage& built = stages_.emplace_back();
    built.embed = std::make_shared<PatchEmbedImpl>(stage);
    for (BlockPlan block : stage.blocks) {
      block.attention.seed = seed + static_cast<std::uint64_t>(index);
      const double drop_path = blocks == 1 ? 0
                                           : config.drop_path * static_cast<double>(index) /
                                                 static_cast<double>(blocks - 1);
      built.blocks.push_back(std::make_shared<PyramidBlockImpl>(plan_, stage, block, drop_path));
      ++index;
    }
    const auto norm = torch::nn::LayerNormOptions({stage.width}).eps(kNormEps);
    if (plan_.stage_norms) built.norm = torch::nn::LayerNorm(norm);
    if (plan_.position_conv) built.position = std::make_shared<PositionConvImpl>(stage.width);
    norm_ = plan_.stage_norms ? built.norm : torch::nn::LayerNorm(norm);
  }
  head_ = torch::nn::Linear(plan_.stages.back().width, plan_.classes);
}

PyramidImpl::~PyramidImpl() = default;

void PyramidImpl::initialise(std::uint64_t seed) {
  // Their truncation of the linear weights, at 100 standard deviations, never cuts anything.
  constexpr double kLinearSpread = 0.02;
  const torch::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto* linear = module->as<torch::nn::Linear>()) {
      linear->weight.normal_(0, kLinearSpread, generator);
      linear->bias.zero_();
    } else if (auto* conv = module->as<torch::nn::Conv2d>()) {
      // weight [outputs, inputs / groups, k, k]
      const std::int64_t fan_out =
          conv->weight.numel() / conv->weight.size(1) / conv->options.groups();
      conv->weight.normal_(0, std::sqrt(2.0 / static_cast<double>(fan_out)), generator);
      conv->bias.zero_();
    }
  }
}

void PyramidImpl::require_takes(const InputBounds& inputs) const {
  if (inputs.image_size == 0) {
    throw InputError(fmt::format("{}: expected images, got sequences of tokens", type()));
  }
  if (const std::int64_t channels = plan_.stages.front().inputs; channels != 3) {
    throw InputError(fmt::format("{}: expected images of {} channels, got RGB", type(), channels));
  }
  stage_maps(plan_, {inputs.image_size, inputs.image_size});
}

torch::Tensor PyramidImpl::forward(const torch::Tensor& images, const torch::Tensor& mask) {
  const std::int64_t channels = plan_.stages.front().inputs;
  if (images.dim() != 4 || images.size(1) != channels || !images.is_floating_point()) {
    throw InputError(fmt::format("{}: expected float images [B, {}, H, W], got {} [{}]", type(),
                                 channels, at::toString(images.scalar_type()),
                                 fmt::join(images.sizes(), ", ")));
  }
  if (mask.defined()) {
    throw InputError(fmt::format("{}: expected images without padding, got a mask", type()));
  }
  const std::vector<MapSize> maps = stage_maps(plan_, {images.size(2), images.size(3)});
  torch::Tensor map =
      images.to(head_->weight.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
  torch::Tensor x;
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    Stage& stage = stages_[s];
    x = stage.embed->forward(map);
    for (const auto& block : stage.blocks) {
      x = block->forward(x, maps[s]);
      if (stage.position && block == stage.blocks.front()) {
        x = stage.position->as<PositionConv>()->forward(x, maps[s]);
      }
    }
    if (s + 1 == stages_.size()) break;
    if (stage.norm) x = stage.norm(x);
    map = to_map(x, maps[s]);
  }
  const torch::Tensor logits = head_(norm_(x).mean(1));
  return logits.to(c10::promoteTypes(logits.scalar_type(), torch::kFloat32));
}

std::vector<std::shared_ptr<nn::Attention>> PyramidImpl::attentions() const {
  std::vector<std::shared_ptr<nn::Attention>> found;
  for (auto stage = stages_.begin(); stage + 1 != stages_.end(); ++stage) {
    for (const auto& block : stage->blocks) found.push_back(block->attention());
  }
  return found;
}

}  // namespace ecoformer::models
