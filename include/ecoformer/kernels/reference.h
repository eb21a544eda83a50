// The same functions as encode.h and tables.h, as plain loops that read like the formulas. They are
// what the fast kernels are tested against.
#pragma once

#include "ecoformer/kernels/encode.h"
#include "ecoformer/kernels/tables.h"

namespace ecoformer::kernels::reference {

/// profile_g(d) of the values (`bias` = value_bias) or of the weights (`bias` = weight_bias).
double profile_at(CodeLayout layout, const Profile& profile, float bias, int g, int distance);

void encode(const HashView& hash, ConstRows x, std::int64_t tokens, Code* codes, float* projection,
            Code* window);
float mean_squared_distance(const float* support, int supports, int dim, ConstRows x,
                            std::int64_t tokens, const std::uint8_t* mask);
float encode_backward(const HashView& hash, ConstRows x, std::int64_t tokens, const Code* window,
                      const float* code_grad, Rows x_grad);
void bandwidth_backward(const float* support, int supports, int dim, ConstRows x,
                        std::int64_t tokens, const std::uint8_t* mask, float bandwidth_grad,
                        Rows x_grad);

void accumulate(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstRows values,
                const float* token_weights, std::int64_t tokens, int dim, Table table);
/// Out of place, the defining double sum over rows.
void mix(CodeLayout layout, const Profile& profile, int dim, ConstTable table, Table mixed);
/// Out of place; d/dbeta of the exponential profile's defining double sum.
void mix_derivative(CodeLayout layout, const Profile& profile, int dim, ConstTable table,
                    Table derivative);
void gather(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstTable mixed,
            float self, ConstRows own, std::int64_t tokens, int dim, Rows out,
            float* inverse_weights);
void gather_backward(ConstRows grad, ConstRows out, const float* inverse_weights,
                     std::int64_t tokens, int dim, Rows values_grad, float* weight_grad);
void bit_gradient(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstRows x,
                  const float* token_weights, ConstTable mixed, std::int64_t tokens, int dim,
                  float* grad);

/// Attention by the double sum over all pairs of tokens: O(N^2), no tables.
void attend(CodeLayout layout, const Profile& profile, const Code* query_codes,
            std::int64_t queries, const Code* key_codes, std::int64_t keys,
            const std::uint8_t* query_mask, const std::uint8_t* key_mask, ConstRows values, int dim,
            Rows out);

}  // namespace ecoformer::kernels::reference
