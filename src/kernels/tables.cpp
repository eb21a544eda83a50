// tables.h for every target: compiles tables-inl.h once a target and dispatches to the best.

#include "ecoformer/kernels/tables.h"

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tables.cpp"
#include "hwy/foreach_target.h"
#include "kernels/tables-inl.h"

#if HWY_ONCE

namespace ecoformer::kernels {

HWY_EXPORT(accumulate);
HWY_EXPORT(mix);
HWY_EXPORT(gather);
HWY_EXPORT(attend_pairs);
HWY_EXPORT(gather_backward);
HWY_EXPORT(bit_gradient);

void accumulate(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstRows values,
                const float* token_weights, std::int64_t tokens, int dim, Table table) {
  HWY_DYNAMIC_DISPATCH(accumulate)
  (layout, codes, mask, values, token_weights, tokens, dim, table);
}

void mix(CodeLayout layout, const Profile& profile, int dim, Table table, const Table* derivative) {
  HWY_DYNAMIC_DISPATCH(mix)(layout, profile, dim, table, derivative);
}

void gather(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstTable mixed,
            float self, ConstRows own, std::int64_t tokens, int dim, Rows out,
            float* inverse_weights) {
  HWY_DYNAMIC_DISPATCH(gather)
  (layout, codes, mask, mixed, self, own, tokens, dim, out, inverse_weights);
}

void attend_pairs(CodeLayout layout, const Profile& profile, const Code* query_codes,
                  const std::uint8_t* query_mask, std::int64_t queries, const Code* key_codes,
                  const std::uint8_t* key_mask, std::int64_t keys, ConstRows values, ConstRows own,
                  int dim, Rows out, float* inverse_weights, float* scratch) {
  HWY_DYNAMIC_DISPATCH(attend_pairs)
  (layout, profile, query_codes, query_mask, queries, key_codes, key_mask, keys, values, own, dim,
   out, inverse_weights, scratch);
}

void gather_backward(ConstRows grad, ConstRows out, const float* inverse_weights,
                     std::int64_t tokens, int dim, Rows values_grad, float* weight_grad) {
  HWY_DYNAMIC_DISPATCH(gather_backward)
  (grad, out, inverse_weights, tokens, dim, values_grad, weight_grad);
}

void bit_gradient(CodeLayout layout, Profile::Kind kind, const Code* codes,
                  const std::uint8_t* mask, ConstRows x, const float* token_weights,
                  ConstTable mixed, std::int64_t tokens, int dim, float* grad, float* scratch) {
  HWY_DYNAMIC_DISPATCH(bit_gradient)
  (layout, kind, codes, mask, x, token_weights, mixed, tokens, dim, grad, scratch);
}

}  // namespace ecoformer::kernels

#endif  // HWY_ONCE
