// Which model a state belongs to: from the names and shapes of its tensors alone, or from metadata.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ecoformer/models/architecture.h"

namespace ecoformer::models {

/// Names and shapes of a state's tensors.
using Shapes = std::map<std::string, std::vector<std::int64_t>>;

/// A vision model found in a file.
struct Recognised {
  Architecture architecture;
  std::string variant{};  ///< its name among `architecture_names()`, empty if it has none
};

/// The PVTv2 or Twins that a state under the authors' names (timm's go through io's key map first)
/// belongs to, with any of its kinds of attention and any number of classes.
///
/// With the key `family` (pvt_v2, twins_svt) in `metadata`, the architecture is read from there,
/// written as by the authors' code: attention (msa, ecoformer; sra or svt for the original),
/// embed_dims, num_heads, mlp_ratios, depths, sr_ratios, num_classes, layer_norm_eps, bits,
/// supports, semantics; for Twins also patch_size, wss, qkv_bias. img_size and top_l say nothing
/// about the model. Without it, what shapes do not tell (heads, window and reduction of replaced
/// layers) is that of the published model with the same widths, depths and ratios; heads of hashed
/// layers can be read. Hashed layers without `beta` are taken for the authors': official semantics.
///
/// Throws InputError listing what is missing or does not fit. That every tensor fits is found out
/// by loading.
Recognised recognise(const Shapes& shapes, const std::map<std::string, std::string>& metadata = {});

}  // namespace ecoformer::models
