// Twins (Chu et al., 2021): SVT with windows and sub-sampled attention in turn, PCPVT with
// sub-sampled attention alone, positions from a convolution; and the EcoFormer form of both.
#pragma once

#include <torch/nn/pimpl.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ecoformer/models/pyramid.h"

namespace ecoformer::models {

/// Everything that fixes a Twins' shape and behaviour. The defaults are Twins-SVT-S.
struct TwinsConfig : PyramidConfig {
  TwinsConfig();

  std::int64_t patch_size = 4;  ///< of the first stage; 2 in the others
  /// Side of the windows of every even block, one entry a stage; empty for PCPVT. A map that is no
  /// multiple is padded with zeros below and to the right, as in timm.
  std::vector<std::int64_t> windows;
};

/// Configuration as a flat JSON object, and back. `twins_config_from_json` throws InputError for an
/// unknown key, a wrong type or a value out of range, naming the key.
nlohmann::json to_json(const TwinsConfig& config);
TwinsConfig twins_config_from_json(const nlohmann::json& json);

/// The layers of the model. Throws InputError if the configuration is not valid.
PyramidPlan plan(const TwinsConfig& config);

/// State names are the authors': patch_embeds.0.proj, blocks.0.0.attn.qkv, pos_block.0.proj.0, ...,
/// norm, head.
class TwinsImpl : public PyramidImpl {
 public:
  explicit TwinsImpl(TwinsConfig config, std::uint64_t seed = 0);

  std::string type() const override { return "twins"; }
  nlohmann::json config_json() const override;
  const TwinsConfig& config() const { return config_; }

 private:
  TwinsConfig config_;
};
TORCH_MODULE(Twins);

}  // namespace ecoformer::models
