// Hashing: tokens to packed codes, and the way back for gradients. One head at a time.
//
//   x^ = x / |x|     k_j = exp(-|x^ - s_j|^2 / (2 sigma))     y = A (k - mu)     bit r = [y_r > 0]
//
// Supports are unit vectors, so |x^ - s|^2 = 2 - 2 x^.s. Exactness: tolerance class (Exp and dot
// products may round differently between instruction sets, so a bit may differ where |y| is tiny).
// Cost a token: m (D + b) multiply-adds, m exponentials.
#pragma once

#include <cstdint>

#include "ecoformer/kernels/codes.h"

namespace ecoformer::kernels {

/// The factors of `encode`'s products. Sums, norms and exponentials are float32 either way.
enum class Precision {
  kFloat32,
  /// Tokens, supports, weights and k - mu rounded to 8 bits of mantissa. Faster; a few bits of the
  /// codes in a thousand change, where y is near 0.
  kBfloat16,
};

/// The state of one head's hash function; all arrays contiguous float32.
struct HashView {
  int dim;               ///< D, channels of a token
  int supports;          ///< m
  int bits;              ///< b
  const float* support;  ///< [m, D], unit rows s_j
  const float* mean;     ///< [m], mu_j, the mean kernel value of each support
  const float* weight;   ///< [b, m], A
  float bandwidth;       ///< sigma > 0
  /// kBfloat16 acts where has_bfloat16_encode() holds and codes alone are asked for, without
  /// projection or window.
  Precision precision = Precision::kFloat32;
};

/// Whether `encode` has kBfloat16 now: on avx3, on a processor with AMX, under a system that lets
/// programs use it.
bool has_bfloat16_encode();

/// Floats of scratch that each function below needs for a hash of this shape. Any alignment will
/// do.
std::int64_t encode_scratch_floats(int dim, int supports, int bits);

/// Codes of the N tokens `x` [N, D]. A token of norm 0 is left at 0 instead of divided by it.
/// |x|^2 is a float32: a token that is not finite or longer than 1e19 has no bit set, one shorter
/// than 1e-22 counts as 0.
///
/// codes       [N]
/// projection  [N, b] row-major, y; may be null
/// window      [N], bit r set where |y_r| < 1 (the straight-through window); may be null
void encode(const HashView& hash, ConstRows x, std::int64_t tokens, Code* codes, float* projection,
            Code* window, float* scratch);

/// sigma of `bandwidth = per_input`: the mean of |x^_n - s_j|^2 over supports and over the tokens
/// with mask[n] != 0 (all tokens if `mask` is null), as 2 - 2 mean(x^).mean(s). Returns 0 if no
/// token counts. `support` is [m, D].
float mean_squared_distance(const float* support, int supports, int dim, ConstRows x,
                            std::int64_t tokens, const std::uint8_t* mask, float* scratch);

/// Gradient of `encode` under the straight-through estimator.
///
/// code_grad  [N, b] row-major, dL/dh; counted where `window` has its bit set
/// x_grad     [N, D], overwritten with dL/dx through hash and normalisation, sigma held fixed
/// Returns dL/dsigma, for `bandwidth_backward` when sigma depends on the input.
float encode_backward(const HashView& hash, ConstRows x, std::int64_t tokens, const Code* window,
                      const float* code_grad, Rows x_grad, float* scratch);

/// Adds to x_grad what flows through sigma of `mean_squared_distance` (the authors do not detach
/// it).
void bandwidth_backward(const float* support, int supports, int dim, ConstRows x,
                        std::int64_t tokens, const std::uint8_t* mask, float bandwidth_grad,
                        Rows x_grad, float* scratch);

}  // namespace ecoformer::kernels
