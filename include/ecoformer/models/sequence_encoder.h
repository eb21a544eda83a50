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
#include "ecoformer/nn/dropout.h"
#include "ecoformer/nn/multi_head_attention.h"

namespace ecoformer::models {

/// Everything that fixes a SequenceEncoder's shape and behaviour; stored with its weights. The
/// defaults are the Nystromformer recipe for ListOps (209,802 parameters with softmax attention).
struct SequenceEncoderConfig {
  std::int64_t vocabulary = 32;   ///< rows of the token embedding; id 0 is padding
  std::int64_t positions = 2048;  ///< longest sequence
  std::int64_t classes = 10;
  std::int64_t width = 64;  ///< C
  std::int64_t layers = 2;
  std::int64_t heads = 2;  ///< H; C must be a multiple
  std::int64_t mlp_width = 128;
  std::int64_t head_width = 128;  ///< hidden layer of the classifier
  double dropout = 0.1;
  nn::Projection projection = nn::Projection::kUntied;
  nn::AttentionOptions attention;  ///< heads and dim are filled in from the fields above
};

/// Configuration as a flat JSON object, and back. `from_json` throws InputError for an unknown key,
/// a wrong type or a value out of range, naming the key.
nlohmann::json to_json(const SequenceEncoderConfig& config);
SequenceEncoderConfig sequence_encoder_config_from_json(const nlohmann::json& json);

/// Throws InputError naming the first field that does not fit (width not a multiple of heads, b
/// outside 1..64, w not 4 or 8, ...).
void validate(const SequenceEncoderConfig& config);

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
