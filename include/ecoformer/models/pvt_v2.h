// PVTv2 (Wang et al., 2022): overlapping patches, spatial-reduction attention, depth-wise MLPs; and
// its EcoFormer form.
#pragma once

#include <torch/nn/pimpl.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "ecoformer/models/pyramid.h"

namespace ecoformer::models {

/// Everything that fixes a PvtV2's shape and behaviour. The defaults are PVTv2-B0.
struct PvtV2Config : PyramidConfig {
  PvtV2Config();

  bool linear = false;      ///< the -Li variant: keys from a 7 x 7 average pooling
  bool fused_last = false;  ///< original attention with `qkv` in the last stage instead of `q` and
                            ///< `kv`, as in the EcoFormer authors' code
};

/// Configuration as a flat JSON object, and back. `pvt_v2_config_from_json` throws InputError for
/// an unknown key, a wrong type or a value out of range, naming the key.
nlohmann::json to_json(const PvtV2Config& config);
PvtV2Config pvt_v2_config_from_json(const nlohmann::json& json);

/// The layers of the model. Throws InputError if the configuration is not valid.
PyramidPlan plan(const PvtV2Config& config);

/// State names are the authors': patch_embed1.proj, block1.0.attn.q, ..., norm1, ..., head.
class PvtV2Impl : public PyramidImpl {
 public:
  explicit PvtV2Impl(PvtV2Config config, std::uint64_t seed = 0);

  std::string type() const override { return "pvt_v2"; }
  nlohmann::json config_json() const override;
  const PvtV2Config& config() const { return config_; }

 private:
  PvtV2Config config_;
};
TORCH_MODULE(PvtV2);

}  // namespace ecoformer::models
