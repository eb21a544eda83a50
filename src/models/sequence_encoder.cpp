// SequenceEncoder: embeddings, pre-norm blocks, masked mean, classifier.

#include "ecoformer/models/sequence_encoder.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>

#include "ecoformer/base/error.h"

namespace ecoformer::models {
namespace {

/// Standard deviation of the embeddings' initial weights (Nystromformer's recipe).
constexpr double kEmbeddingSpread = 0.02;

SequenceEncoderConfig completed(SequenceEncoderConfig config) {
  validate(config);
  config.attention.heads = config.heads;
  config.attention.dim = config.width / config.heads;
  return config;
}

/// Draws every parameter anew from one generator, so that weights depend on the seed alone: uniform
/// in
/// +-1/sqrt(inputs) for linear layers (LibTorch's own rule), normal for embeddings; norms stay 1
/// and 0.
void initialise(torch::nn::Module& model, std::uint64_t seed) {
  const torch::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const auto& module : model.modules(/*include_self=*/false)) {
    if (auto* linear = module->as<torch::nn::Linear>()) {
      const double bound = 1 / std::sqrt(static_cast<double>(linear->options.in_features()));
      linear->weight.uniform_(-bound, bound, generator);
      linear->bias.uniform_(-bound, bound, generator);
    } else if (auto* embedding = module->as<torch::nn::Embedding>()) {
      embedding->weight.normal_(0, kEmbeddingSpread, generator);
    }
  }
}

}  // namespace

EncoderBlockImpl::EncoderBlockImpl(const SequenceEncoderConfig& config) {
  const auto norm = torch::nn::LayerNormOptions({config.width});
  norm1_ = register_module("norm1", torch::nn::LayerNorm(norm));
  attn = register_module("attn", nn::MultiHeadAttention(config.attention, config.projection));
  norm2_ = register_module("norm2", torch::nn::LayerNorm(norm));
  mlp_ = register_module("mlp", Mlp(config.width, config.mlp_width));
  dropout_ = register_module("dropout", nn::Dropout(config.dropout));
}

torch::Tensor EncoderBlockImpl::forward(torch::Tensor x, const torch::Tensor& mask) {
  x = x + dropout_(attn(norm1_(x), mask));
  return x + dropout_(mlp_->fc2(dropout_(torch::gelu(mlp_->fc1(norm2_(x))))));
}

SequenceEncoderImpl::SequenceEncoderImpl(SequenceEncoderConfig config, std::uint64_t seed)
    : config_(completed(std::move(config))) {
  const auto width = config_.width;
  token_embedding_ =
      register_module("token_embedding", torch::nn::Embedding(config_.vocabulary, width));
  position_embedding_ =
      register_module("position_embedding", torch::nn::Embedding(config_.positions, width));
  dropout_ = register_module("dropout", nn::Dropout(config_.dropout));
  blocks_ = register_module("blocks", torch::nn::ModuleList());
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    auto block = config_;
    block.attention.seed = seed + static_cast<std::uint64_t>(i);
    blocks_->push_back(EncoderBlock(block));
  }
  norm_ = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({width})));
  head_ = register_module("head", Mlp(width, config_.head_width, config_.classes));
  initialise(*this, seed);
}

torch::Tensor SequenceEncoderImpl::forward(const torch::Tensor& tokens, const torch::Tensor& mask) {
  const auto length = tokens.size(1);
  if (length > config_.positions) {
    throw InputError(fmt::format("sequence encoder: expected at most {} tokens, got {}",
                                 config_.positions, length));
  }
  if (tokens.numel() > 0) {
    const auto low = tokens.min().item<std::int64_t>();
    const auto high = tokens.max().item<std::int64_t>();
    if (low < 0 || high >= config_.vocabulary) {
      throw InputError(fmt::format("sequence encoder: expected token ids in [0, {}), got {}",
                                   config_.vocabulary, low < 0 ? low : high));
    }
  }
  auto x = token_embedding_(tokens) + position_embedding_->weight.narrow(0, 0, length);
  x = dropout_(x);
  for (const auto& block : *blocks_) x = block->as<EncoderBlock>()->forward(x, mask);
  const auto real = mask.unsqueeze(-1).to(x.scalar_type());
  const auto pooled = (norm_(x) * real).sum(1) / real.sum(1).clamp_min(1);
  const auto logits = head_->fc2(torch::relu(head_->fc1(pooled)));
  return logits.to(c10::promoteTypes(logits.scalar_type(), torch::kFloat32));
}

void SequenceEncoderImpl::require_takes(const InputBounds& inputs) const {
  if (inputs.image_size > 0) {
    throw InputError("sequence encoder: expected sequences of tokens, got images");
  }
  if (inputs.vocabulary > config_.vocabulary) {
    throw InputError(
        fmt::format("sequence encoder: expected token ids below the vocabulary of {}, got {}",
                    config_.vocabulary, inputs.vocabulary - 1));
  }
  if (inputs.tokens > config_.positions) {
    throw InputError(
        fmt::format("sequence encoder: expected sequences of at most {} positions, got {} tokens",
                    config_.positions, inputs.tokens));
  }
}

std::vector<std::shared_ptr<nn::Attention>> SequenceEncoderImpl::attentions() const {
  std::vector<std::shared_ptr<nn::Attention>> found;
  for (const auto& block : *blocks_) found.push_back(block->as<EncoderBlock>()->attn->attention);
  return found;
}

nlohmann::json SequenceEncoderImpl::config_json() const {
  return to_json(config_);
}

}  // namespace ecoformer::models
