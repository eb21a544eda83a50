// What an attention mechanism is built from, as data: no tensors, no torch.
#pragma once

#include <cstdint>
#include <string>

namespace ecoformer::nn {

/// The weight of a pair as a function of Hamming distance; see kernels/codes.h.
enum class Semantics {
  kPaper,        ///< equation 9: b - 2 d + 2^c
  kOfficial,     ///< what the authors' code computes; needs the queries' own values
  kExponential,  ///< sum over groups of exp(-2 beta d_g), beta learned per head
};

/// Where sigma, the bandwidth of the kernel, comes from.
enum class Bandwidth {
  kFrozen,    ///< a buffer [H], set when the hash is learned; unaffected by padding and batch
  kPerInput,  ///< the mean squared distance of this sample's own tokens, as the authors' code
};

/// How queries and keys are made from tokens.
enum class Projection {
  kUntied,  ///< separate query and key rows, one fused `qkv` [3 C, C]
  kTied,    ///< one projection `to_qk` for both, as the paper; `to_v` for values
};

/// What an attention mechanism is built from; each mechanism reads the fields it knows.
struct AttentionOptions {
  std::string mechanism = "softmax";  ///< a name of attention_mechanisms()
  std::int64_t heads = 1;             ///< H
  std::int64_t dim = 32;              ///< D, channels a head

  Semantics semantics = Semantics::kExponential;  ///< eco
  Bandwidth bandwidth = Bandwidth::kFrozen;       ///< eco
  std::int64_t bits = 16;                         ///< eco: b
  std::int64_t supports = 25;                     ///< eco: m
  std::int64_t group_bits = 8;                    ///< eco: w, part of the model for kExponential
  std::uint64_t seed = 0;                         ///< eco: of the hash weights before learning
};

/// The names used in configurations and files: paper, official, exponential; frozen, per_input;
/// untied, tied.
std::string to_string(Semantics semantics);
std::string to_string(Bandwidth bandwidth);
std::string to_string(Projection projection);
/// The way back; throws InputError for an unknown name.
Semantics semantics_from_string(const std::string& name);
Bandwidth bandwidth_from_string(const std::string& name);
Projection projection_from_string(const std::string& name);

}  // namespace ecoformer::nn
