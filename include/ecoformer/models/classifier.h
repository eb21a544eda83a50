// What every model of this library is to those that train, convert and run it: a classifier.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ecoformer/nn/attention.h"

namespace ecoformer::models {

/// The largest input of a data set: what a model of it has to be able to take.
struct InputBounds {
  std::int64_t tokens = 0;      ///< of the longest sequence
  std::int64_t vocabulary = 0;  ///< every token id lies below
  std::int64_t image_size = 0;  ///< side of square RGB images; 0: sequences
};

/// A model from inputs to class logits, whose attention mechanisms can be observed and replaced.
class Classifier : public torch::nn::Module {
 public:
  /// inputs: tokens [B, N] int64 or images [B, channels, H, W]; mask [B, N] bool (true: real), or
  /// undefined for inputs that are never padded -> logits [B, classes], float32 at the
  /// least. Throws InputError if the model can not take them.
  virtual torch::Tensor forward(const torch::Tensor& inputs, const torch::Tensor& mask) = 0;

  /// Throws InputError naming what does not fit if `forward` could not take such inputs.
  virtual void require_takes(const InputBounds& inputs) const = 0;

  /// The attention mechanisms of all layers that EcoFormer replaces, first layer first. As many for
  /// every kind of attention, so that a dense model and its conversion match one to one.
  virtual std::vector<std::shared_ptr<nn::Attention>> attentions() const = 0;

  /// Every dropout and drop path of the model draws from `generator` from now on.
  void use_generator(const at::Generator& generator);

  virtual std::int64_t classes() const = 0;

  /// The architecture's name in `make_classifier`: sequence_encoder, pvt_v2, twins.
  virtual std::string type() const = 0;

  /// The configuration that `make_classifier` takes.
  virtual nlohmann::json config_json() const = 0;
};

/// Converts the weights of `model` to `dtype`, float32 or bfloat16, for inference; its inputs and
/// logits stay as they are. Hash functions and beta stay float32: they decide the codes.
void set_inference_dtype(Classifier& model, torch::ScalarType dtype);

/// Builds a model with weights drawn from the generator seeded `seed`. Throws InputError for an
/// unknown type, and for a configuration that is not valid.
std::shared_ptr<Classifier> make_classifier(const std::string& type, const nlohmann::json& config,
                                            std::uint64_t seed = 0);

/// Elements of all parameters and buffers of the model that `make_classifier` would build, not
/// counting the state of mechanisms other than `eco`. Throws as it does.
std::int64_t state_elements(const std::string& type, const nlohmann::json& config);

/// Refuses a model for a file that holds `elements` in all, before memory is taken for it: throws
/// InputError if the model has more than twice as many, and as `make_classifier` does. Where less
/// is missing, loading says what.
void require_state_for(const std::string& type, const nlohmann::json& config, double elements);

/// The types `make_classifier` knows.
std::vector<std::string> classifier_types();

}  // namespace ecoformer::models
