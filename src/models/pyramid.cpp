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
namespace {

void expect_list(const char* key, const std::vector<std::int64_t>& list, std::size_t stages,
                 std::int64_t least, std::int64_t most) {
  if (list.size() != stages) {
    throw InputError(fmt::format("model config: expected {} entries in '{}', one a stage, got {}",
                                 stages, key, list.size()));
  }
  for (const std::int64_t value : list) expect_range(key, value, least, most);
}

std::int64_t linear_elements(std::int64_t inputs, std::int64_t outputs) {
  return inputs * outputs + outputs;
}

std::int64_t attention_elements(const BlockPlan& block, std::int64_t width) {
  const nn::AttentionOptions& o = block.attention;
  std::int64_t total = linear_elements(width, width);  // proj
  if (block.kind == BlockPlan::Kind::kSubSampled) {
    total += linear_elements(width, width) + linear_elements(width, 2 * width);
    if (block.pooled || block.reduction > 1) {
      total += linear_elements(block.reduction * block.reduction * width, width) + 2 * width;
    }
    return total;
  }
  const std::int64_t projections = block.projection == nn::Projection::kTied ? 2 : 3;
  total += linear_elements(width, projections * width);
  if (o.mechanism == "eco") {
    total += o.heads * o.supports * (o.bits + 1 + o.dim);
    if (o.bandwidth == nn::Bandwidth::kFrozen) total += o.heads;
    if (o.semantics == nn::Semantics::kExponential) total += o.heads;
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
