// Attention in Hamming space as a differentiable operator, linear in N forward and backward.
#pragma once

#include <torch/types.h>

#include <cstdint>

#include "ecoformer/nn/attention_options.h"
#include "ecoformer/nn/hash_function.h"

namespace ecoformer::nn {

/// Which tokens are real. Bool, true: real. Undefined: all.
struct Masks {
  torch::Tensor keys;     ///< [B, Nk]
  torch::Tensor queries;  ///< [B, Nq]; for self-attention the same tensor as `keys`
};

/// Largest beta used; larger values act as this one. exp(-2 * 5 * 8) = 2e-35 is still a normal
/// float32, so no weight of an 8-bit group underflows to zero.
inline constexpr double kMaxBeta = 5.0;

/// Tokens that are summed into one table. Longer sequences have a table for each such block, added
/// up in order: a fixed cut, so that any number of threads gives the same bits.
inline constexpr std::int64_t kTableTokens = 2048;

/// w, the bits of a table's index, that attention uses for so many real queries and keys together:
/// `group_bits` itself where it matters (kExponential). A linear profile means the same for any w;
/// w = 8 halves the passes over tokens but mixes 8 times the rows, which pays from about 1024
/// tokens on. Padding does not count, or it would change the result's last bits.
std::int64_t used_group_bits(Semantics semantics, std::int64_t group_bits,
                             std::int64_t real_tokens);

/// Whether there are so few keys that weighing them pair by pair takes less time, in
/// self-attention, than mixing the tables of `bits` bits in groups of `group_bits`. The result is
/// the same but for rounding. Neither padding nor the number of queries counts, so neither changes
/// a query's bits.
bool attends_by_pairs(std::int64_t bits, std::int64_t group_bits, std::int64_t real_keys);

/// out[b,h,i] = sum_j weight(i, j) v_j / sum_j weight(i, j), weights by the Hamming distance of the
/// codes of q_i and k_j.
///
/// q [B, H, Nq, D], k [B, H, Nk, D], v [B, H, Nk, Dv]: float32, bfloat16 or float16, computed in
/// float32; any strides with contiguous channels are read in place. Returns [B, H, Nq, Dv] in v's
/// dtype. Passing one tensor as q and k hashes it once. `beta` [H] is read by kExponential only.
/// `group_bits` is 4 or 8; it changes the result of kExponential only.
///
/// Padded keys take no part, padded queries and queries without any real key give zeros.
/// Gradients: straight-through for the codes (zero where |y| >= 1) on the discrete derivative of
/// the weights by a bit, ordinary for v and beta, and through sigma with a per-input bandwidth.
/// They can not be differentiated again. Throws c10::Error on mismatched shapes.
torch::Tensor hamming_attention(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, const HashState& hash, Semantics semantics,
                                std::int64_t group_bits, const torch::Tensor& beta = {},
                                const Masks& masks = {});

/// As above, for codes that are known already (packed, int64 [B, H, N]); not differentiable.
torch::Tensor attend_codes(const torch::Tensor& query_codes, const torch::Tensor& key_codes,
                           const torch::Tensor& v, std::int64_t bits, Semantics semantics,
                           std::int64_t group_bits, const torch::Tensor& beta = {},
                           const Masks& masks = {});

}  // namespace ecoformer::nn
