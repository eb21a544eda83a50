// encode.h for every target: compiles encode-inl.h once a target and dispatches to the best.

#include "ecoformer/kernels/encode.h"

#include <algorithm>

#include "ecoformer/kernels/targets.h"
#include "kernels/amx.h"
#include "kernels/encode_scratch.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/encode.cpp"
#include "hwy/foreach_target.h"
#include "kernels/encode-inl.h"
#include "kernels/encode_bfloat16-inl.h"

#if HWY_ONCE

namespace ecoformer::kernels {

HWY_EXPORT(encode);
HWY_EXPORT(encode_bfloat16);
HWY_EXPORT(mean_squared_distance);
HWY_EXPORT(encode_backward);
HWY_EXPORT(bandwidth_backward);

std::int64_t encode_scratch_floats(int dim, int supports, int bits) {
  const std::int64_t floats = EncodeScratch::floats(dim, supports, bits);
  return has_amx() ? std::max(floats, TileScratch::floats(dim, supports, bits)) : floats;
}

bool has_bfloat16_encode() {
  return has_amx() && active_target() == "avx3";
}

void encode(const HashView& hash, ConstRows x, std::int64_t tokens, Code* codes, float* projection,
            Code* window, float* scratch) {
  if (hash.precision == Precision::kBfloat16 && projection == nullptr && window == nullptr &&
      has_amx()) {
    HWY_DYNAMIC_DISPATCH(encode_bfloat16)(hash, x, tokens, codes, scratch);
    return;
  }
  HWY_DYNAMIC_DISPATCH(encode)(hash, x, tokens, codes, projection, window, scratch);
}

float mean_squared_distance(const float* support, int supports, int dim, ConstRows x,
                            std::int64_t tokens, const std::uint8_t* mask, float* scratch) {
  return HWY_DYNAMIC_DISPATCH(mean_squared_distance)(support, supports, dim, x, tokens, mask,
                                                     scratch);
}

float encode_backward(const HashView& hash, ConstRows x, std::int64_t tokens, const Code* window,
                      const float* code_grad, Rows x_grad, float* scratch) {
  return HWY_DYNAMIC_DISPATCH(encode_backward)(hash, x, tokens, window, code_grad, x_grad, scratch);
}

void bandwidth_backward(const float* support, int supports, int dim, ConstRows x,
                        std::int64_t tokens, const std::uint8_t* mask, float bandwidth_grad,
                        Rows x_grad, float* scratch) {
  HWY_DYNAMIC_DISPATCH(bandwidth_backward)
  (support, supports, dim, x, tokens, mask, bandwidth_grad, x_grad, scratch);
}

}  // namespace ecoformer::kernels

#endif  // HWY_ONCE
