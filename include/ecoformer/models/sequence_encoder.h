// A transformer encoder for classifying token sequences, in the Long Range Arena shape.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ecoformer/models/classifier.h"
#include "ecoformer/models/sequence_encoder_config.h"
#include "ecoformer/nn/dropout.h"
#include "ecoformer/nn/multi_head_attention.h"

namespace ecoformer::models {

/// Two linear layers, `fc1` and `fc2`; what lies between them is the caller's.
class MlpImpl : public torch::nn::Module {
 public:
  /// inputs -> hidden -> outputs; as many outputs as inputs if `outputs` is 0.
  MlpImpl(std::int64_t inputs, std::int64_t hidden, std::int64_t outputs = 0)
      : fc1(register_module("fc1", torch::nn::Linear(inputs, hidden))),
        fc2(register_module("fc2", torch::nn::Linear(hidden, outputs == 0 ? inputs : outputs))) {}

  torch::nn::Linear fc1, fc2;
};
TORCH_MODULE(Mlp);

/// x = x + attention(norm1(x)); x = x + mlp(norm2(x)). State names: norm1, attn, norm2, mlp.fc1,
/// mlp.fc2.
class EncoderBlockImpl : public torch::nn::Module {
 public:
  explicit EncoderBlockImpl(const SequenceEncoderConfig& config);
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& mask);

  nn::MultiHeadAttention attn = nullptr;

 private:
  torch::nn::LayerNorm norm1_ = nullptr, norm2_ = nullptr;
  Mlp mlp_ = nullptr;
  nn::Dropout dropout_ = nullptr;
};
TORCH_MODULE(EncoderBlock);

/// Token and position embedding, pre-norm blocks, mean over real tokens, two-layer classifier.
class SequenceEncoderImpl : public Classifier {
 public:
  /// Weights are drawn from the generator seeded `seed`: the same seed, the same weights.
  explicit SequenceEncoderImpl(SequenceEncoderConfig config, std::uint64_t seed = 0);

  /// tokens [B, N] int64, mask [B, N] bool (true: real) -> logits [B, classes]. A sample without
  /// any real token pools to zeros. Throws InputError if N exceeds the positions or an id the
  /// vocabulary.
  torch::Tensor forward(const torch::Tensor& tokens, const torch::Tensor& mask) override;

  void require_takes(const InputBounds& inputs) const override;
  std::vector<std::shared_ptr<nn::Attention>> attentions() const override;
  std::int64_t classes() const override { return config_.classes; }
  std::string type() const override { return "sequence_encoder"; }
  nlohmann::json config_json() const override;

  const SequenceEncoderConfig& config() const { return config_; }

 private:
  SequenceEncoderConfig config_;
  torch::nn::Embedding token_embedding_ = nullptr, position_embedding_ = nullptr;
  nn::Dropout dropout_ = nullptr;
  torch::nn::ModuleList blocks_ = nullptr;
  torch::nn::LayerNorm norm_ = nullptr;
  Mlp head_ = nullptr;
};
TORCH_MODULE(SequenceEncoder);

}  // namespace ecoformer::models
