// Attention by table lookup: accumulate, mix, gather, and what their gradients need. One head at a
// time.
//
//   accumulate   T_g[n] += sum of v_j over tokens with c_j[g] = n          count_g[n] likewise
//   mix          U_g[n] = sum_n' profile_g(hamming(n, n')) T_g[n']
//   gather       out_i = (sum_g U_g[c_i[g]] + self v_i) / sum_g Z_g[c_i[g]]
//
// A table holds `values` [rows, D] and `weights` [rows], rows = layout.total_rows(). Exactness:
// exact class. Tokens are added in order and vectorised over channels, so accumulate, mix and
// gather give the same bits on every instruction set; gather_backward and bit_gradient reduce over
// channels and are tolerance class.
#pragma once

#include <cstdint>

#include "ecoformer/kernels/codes.h"

namespace ecoformer::kernels {

/// A table that is written.
struct Table {
  float* values;   ///< [rows, D]
  float* weights;  ///< [rows]
};

/// A table that is read.
struct ConstTable {
  const float* values;
  const float* weights;
  ConstTable(const float* v, const float* w) : values(v), weights(w) {}
  ConstTable(Table table) : values(table.values), weights(table.weights) {}  // NOLINT: a view
};

/// Adds every token with mask[n] != 0 (all if null) to its row in each group: its D values, and
/// `token_weights[n]` (1 if null) to the row's weight. G (D + 1) additions a token.
void accumulate(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstRows values,
                const float* token_weights, std::int64_t tokens, int dim, Table table);

/// Mixes a table in place: every row becomes the sum of its group's rows, each times the profile of
/// their Hamming distance. Linear profiles: 4 additions an element. Exponential: one multiply and
/// add an element and bit, all terms of one sign, so nothing cancels.
///
/// derivative  [same shape], of the mixed table by beta; may be null, and must be for linear
/// profiles
void mix(CodeLayout layout, const Profile& profile, int dim, Table table,
         const Table* derivative = nullptr);

/// Looks up and normalises: out_i = (sum_g values_g[c_i[g]] + self own_i) / sum_g
/// weights_g[c_i[g]].
///
/// own              [N, D], v_i; read only if self != 0
/// out              [N, D]; zero where mask[n] == 0 or the weight is not positive
/// inverse_weights  [N], 1 / sum_g weights, 0 where out is zero; may be null
/// If table.weights is null the sum is not divided and inverse_weights is not written.
void gather(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstTable mixed,
            float self, ConstRows own, std::int64_t tokens, int dim, Rows out,
            float* inverse_weights);

/// The same as accumulate, mix and gather without a table, pair by pair: cheaper where there are
/// fewer pairs than a table takes to mix. Exact class like them, but with other bits, as the sums
/// are in another order. Queries times keys: G lookups, D multiplications and D additions.
///
/// own      [queries, D]; read only if the profile adds a token's own value
/// out and inverse_weights as in `gather`
/// scratch  [keys]
void attend_pairs(CodeLayout layout, const Profile& profile, const Code* query_codes,
                  const std::uint8_t* query_mask, std::int64_t queries, const Code* key_codes,
                  const std::uint8_t* key_mask, std::int64_t keys, ConstRows values, ConstRows own,
                  int dim, Rows out, float* inverse_weights, float* scratch);

/// What flows back through the division of `gather`, from out = values / weight: the gradient by
/// the gathered values, grad_out / weight, and by the gathered weight, -(grad_out / weight) . out.
///
/// grad             [N, D], dL/dout
/// out              [N, D] and
/// inverse_weights  [N], as `gather` wrote them
/// values_grad      [N, D], overwritten
/// weight_grad      [N], overwritten
/// Both are zero where inverse_weights is, whatever grad holds there.
void gather_backward(ConstRows grad, ConstRows out, const float* inverse_weights,
                     std::int64_t tokens, int dim, Rows values_grad, float* weight_grad);

/// Discrete derivative of sum_g (x_n . values_g[c_n[g]] + t_n weights_g[c_n[g]]) by every bit:
///
///   grad[n, r] = 1/2 ( x_n . (values[c | r] - values[c & ~r]) + t_n (weights[c | r] - weights[c &
///   ~r]) )
///
/// Serves queries (x = grad_out / Z, t = -x.out, the mixed forward table) and keys (x = v, t = 1,
/// the mixed table of the queries' x and t). `token_weights` t is [N] or null for 1. Adds to `grad`
/// [N, b] row-major; tokens with mask[n] == 0 are left alone.
///
/// kind     that of the profile which mixed the table: with a linear one a bit makes the same
///          difference whatever the others are, and x meets b rows instead of b + G a token
/// scratch  [b (D + 1)]
void bit_gradient(CodeLayout layout, Profile::Kind kind, const Code* codes,
                  const std::uint8_t* mask, ConstRows x, const float* token_weights,
                  ConstTable mixed, std::int64_t tokens, int dim, float* grad, float* scratch);

}  // namespace ecoformer::kernels
