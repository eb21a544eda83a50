// HammingAttention: the three passes over one table, forward and backward, over all samples and
// heads. No tensor here is larger than its inputs times a constant; tables live in per-thread
// scratch.

#include "ecoformer/nn/hamming_attention.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <vector>

#include "ecoformer/kernels/tables.h"
#include "nn/head_views.h"

namespace ecoformer::nn {
namespace {

using kernels::Code;
using kernels::CodeLayout;
using kernels::ConstRows;
using kernels::Profile;

/// A table of one head and the memory behind it.
class TableBuffer {
 public:
  TableBuffer(CodeLayout layout, std::int64_t dim)
      : values_(layout.total_rows() * dim), weights_(layout.total_rows()) {}
  kernels::Table cleared() {
    std::fill(values_.begin(), values_.end(), 0.0F);
    std::fill(weights_.begin(), weights_.end(), 0.0F);
    return view();
  }
  kernels::Table view() { return {values_.data(), weights_.data()}; }

  /// Sum of the products of all entries.
  double dot(const TableBuffer& other) const {
    double sum = 0;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      sum += static_cast<double>(values_[i]) * other.values_[i];
    }
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      sum += static_cast<double>(weights_[i]) * other.weights_[i];
    }
    return sum;
  }

 private:
  std::vector<float> values_;
  std::vector<float> weights_;
};

/// What stays fixed over samples and heads.
struct Operator {
  Semantics semantics;
  CodeLayout layout;
  torch::Tensor beta;  ///< [H] float32, empty where the semantics have none
  Masks masks;

  Profile profile(std::int64_t h) const {
    switch (semantics) {
      case Semantics::kPaper:
        return kernels::paper_profile(layout.bits);
      case Semantics::kOfficial:
        return kernels::official_profile(layout.bits);
      case Semantics::kExponential:
        break;
    }
    const auto clamped =
        std::clamp(static_cast<double>(beta.const_data_ptr<float>()[h]), 0.0, kMaxBeta);
    return kernels::exponential_profile(static_cast<float>(clamped));
  }
};

/// Codes of [B, H, N] tokens, with the straight-through window if a gradient will be asked for.
struct EncodedTokens {
  torch::Tensor codes;   ///< int64 [B, H, N]
  torch::Tensor window;  ///< int64 [B, H, N], or undefined

  static EncodedTokens empty_like(const torch::Tensor& x, bool with_window) {
    const auto shape = x.sizes().slice(0, 3);
    return {torch::empty(shape, torch::kInt64),
            with_window ? torch::empty(shape, torch::kInt64) : torch::Tensor()};
  }
  static Code* head(const torch::Tensor& packed, std::int64_t b, std::int64_t h) {
    if (!packed.defined()) return nullptr;
    return reinterpret_cast<Code*>(packed.data_ptr<std::int64_t>()) +
           (b * packed.size(1) + h) * packed.size(2);
  }
};

std::int64_t count_real(const torch::Tensor& mask, std::int64_t b, std::int64_t tokens) {
  const std::uint8_t* row = mask_row(mask, b);
  return row == nullptr ? tokens : tokens - std::count(row, row + tokens, 0);
}

/// Runs f(b, h) for every sample and head; each pair is one unit of work, so any number of threads
/// gives the same bits. `make_scratch()` is called once a thread.
template <typename MakeScratch, typename F>
void for_each_head(std::int64_t samples, std::int64_t heads, const MakeScratch& make_scratch,
                   const F& f) {
  at::parallel_for(0, samples * heads, 1, [&](std::int64_t begin, std::int64_t end) {
    auto scratch = make_scratch();
    for (std::int64_t i = begin; i < end; ++i) f(scratch, i / heads, i % heads);
  });
}

/// The lookup itself: codes and values in, out [B, H, Nq, D] and 1 / sum of weights [B, H, Nq].
void attend(const Operator& op, const torch::Tensor& query_codes, const torch::Tensor& key_codes,
            const torch::Tensor& v, torch::Tensor& out, torch::Tensor& inverse_weights) {
  const auto samples = v.size(0);
  const auto heads = v.size(1);
  const auto keys = v.size(2);
  const auto dim = v.size(3);
  const auto queries = query_codes.size(2);
  // Tokens outside, heads inside: merging the heads of the result is then a view.
  out = at::empty_strided({samples, heads, queries, dim},
                          {queries * heads * dim, dim, heads * dim, 1}, v.options());
  inverse_weights = torch::empty({samples, heads, queries});
  for_each_head(
      samples, heads, [&] { return TableBuffer(op.layout, dim); },
      [&](TableBuffer& buffer, std::int64_t b, std::int64_t h) {
        const kernels::Table table = buffer.cleared();
        const Profile profile = op.profile(h);
        kernels::accumulate(op.layout, EncodedTokens::head(key_codes, b, h),
                            mask_row(op.masks.keys, b), const_rows(v, b, h), nullptr, keys,
                            static_cast<int>(dim), table);
        kernels::mix(op.layout, profile, static_cast<int>(dim), table);
        kernels::gather(op.layout, EncodedTokens::head(query_codes, b, h),
                        mask_row(op.masks.queries, b), table, profile.self, const_rows(v, b, h),
                        queries, static_cast<int>(dim), rows(out, b, h),
                        inverse_weights.data_ptr<float>() + (b * heads + h) * queries);
      });
}

/// Everything above for float32 tensors, as one differentiable function.
class HammingAttention : public torch::autograd::Function<HammingAttention> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& q,
                               const torch::Tensor& k, const torch::Tensor& v,
                               const torch::Tensor& beta, const HashState& hash, const Operator& op,
                               bool tied, bool differentiable) {
    const auto samples = q.size(0);
    const auto heads = q.size(1);
    const bool need_codes = differentiable && (q.requires_grad() || k.requires_grad());
    const EncodedTokens queries = EncodedTokens::empty_like(q, need_codes);
    const EncodedTokens keys = tied ? queries : EncodedTokens::empty_like(k, need_codes);
    const torch::Tensor sigma = torch::empty({samples, heads});
    for_each_head(
        samples, heads, [&] { return scratch_for(hash); },
        [&](std::vector<float>& scratch, std::int64_t b, std::int64_t h) {
          float& bandwidth = sigma.data_ptr<float>()[b * heads + h];
          bandwidth = bandwidth_of(hash, op.masks, q, k, tied, b, h, scratch.data());
          const kernels::HashView view = hash_view(hash, h, bandwidth);
          encode_head(view, q, queries, b, h, scratch.data());
          if (!tied) encode_head(view, k, keys, b, h, scratch.data());
        });

    torch::Tensor out;
    torch::Tensor inverse_weights;
    attend(op, queries.codes, keys.codes, v, out, inverse_weights);

    if (differentiable) {
      ctx->save_for_backward({q, k, v, beta, out, inverse_weights, sigma, queries.codes,
                              queries.window, keys.codes, keys.window, hash.support, hash.mean,
                              hash.weight, hash.bandwidth, op.masks.queries, op.masks.keys});
      ctx->saved_data["semantics"] = static_cast<std::int64_t>(op.semantics);
      ctx->saved_data["group_bits"] = static_cast<std::int64_t>(op.layout.group_bits);
      ctx->saved_data["tied"] = tied;
    }
    return out;
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* ctx,
                                               const torch::autograd::tensor_list& grads) {
    TORCH_CHECK(!torch::GradMode::is_enabled(),
                "hamming_attention: the straight-through gradient cannot be differentiated again\n"
                "hint: call backward without create_graph");
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &beta = saved[3];
    const torch::Tensor &out = saved[4], &inverse_weights = saved[5], &sigma = saved[6];
    const EncodedTokens queries{saved[7], saved[8]};
    const EncodedTokens keys{saved[9], saved[10]};
    const HashState hash{saved[11], saved[12], saved[13], saved[14]};
    const bool tied = ctx->saved_data["tied"].toBool();
    const Operator op{
        .semantics = static_cast<Semantics>(ctx->saved_data["semantics"].toInt()),
        .layout = {.bits = static_cast<int>(hash.weight.size(1)),
                   .group_bits = static_cast<int>(ctx->saved_data["group_bits"].toInt())},
        .beta = beta,
        .masks = {.keys = saved[16], .queries = saved[15]}};
    const bool need_codes = queries.window.defined();
    const bool need_beta = op.semantics == Semantics::kExponential;

    const auto samples = q.size(0);
    const auto heads = q.size(1);
    const auto query_count = q.size(2);
    const auto key_count = k.size(2);
    const auto dim = v.size(3);
    const auto bits = static_cast<std::int64_t>(op.layout.bits);
    const torch::Tensor grad = as_rows(grads[0]);
    const torch::Tensor v_grad = torch::empty_like(v);
    const torch::Tensor q_grad = need_codes ? torch::empty_like(q) : torch::Tensor();
    const torch::Tensor k_grad = need_codes && !tied ? torch::empty_like(k) : torch::Tensor();
    const torch::Tensor beta_grad = torch::zeros({samples, heads}, torch::kFloat64);

    struct Scratch {
      TableBuffer forward, derivative, reverse;
      std::vector<float> scaled, slope, query_bits, key_bits, encode;
    };
    const auto make_scratch = [&] {
      return Scratch{TableBuffer(op.layout, dim),
                     TableBuffer(op.layout, need_beta ? dim : 0),
                     TableBuffer(op.layout, dim),
                     std::vector<float>(query_count * dim),
                     std::vector<float>(query_count),
                     std::vector<float>(need_codes ? query_count * bits : 0),
                     std::vector<float>(need_codes && !tied ? key_count * bits : 0),
                     scratch_for(hash)};
    };
    for_each_head(samples, heads, make_scratch, [&](Scratch& s, std::int64_t b, std::int64_t h) {
      const int d = static_cast<int>(dim);
      const Profile profile = op.profile(h);
      const Code* query_codes = EncodedTokens::head(queries.codes, b, h);
      const Code* key_codes = EncodedTokens::head(keys.codes, b, h);
      const std::uint8_t* query_mask = mask_row(op.masks.queries, b);
      const std::uint8_t* key_mask = mask_row(op.masks.keys, b);

      // out = values / weight, so d out / d values is ghat = grad / weight and d out / d weight is
      // -ghat . out.
      const ConstRows ghat{s.scaled.data(), dim};
      const float* inverse =
          inverse_weights.const_data_ptr<float>() + (b * heads + h) * query_count;
      for (std::int64_t i = 0; i < query_count; ++i) {
        const float* g = const_rows(grad, b, h)[i];
        const float* o = const_rows(out, b, h)[i];
        float along = 0;
        for (int c = 0; c < d; ++c) {
          const float scaled = inverse[i] == 0 ? 0 : g[c] * inverse[i];
          s.scaled[i * dim + c] = scaled;
          along += scaled * o[c];
        }
        s.slope[i] = -along;
      }

      const kernels::Table mixed = s.forward.cleared();
      kernels::accumulate(op.layout, key_codes, key_mask, const_rows(v, b, h), nullptr, key_count,
                          d, mixed);
      const kernels::Table reverse = s.reverse.cleared();
      kernels::accumulate(op.layout, query_codes, query_mask, ghat, s.slope.data(), query_count, d,
                          reverse);
      if (need_beta) {
        kernels::mix_with_derivative(op.layout, profile, d, mixed, s.derivative.view());
        const float value = beta.const_data_ptr<float>()[h];
        // Outside its range beta acts as the bound, so its gradient is zero there.
        if (value >= 0 && value <= kMaxBeta) {
          beta_grad.data_ptr<double>()[b * heads + h] = s.reverse.dot(s.derivative);
        }
      } else {
        kernels::mix(op.layout, profile, d, mixed);
      }
      kernels::mix(op.layout, profile, d, reverse);

      kernels::gather(op.layout, key_codes, key_mask, {reverse.values, nullptr}, profile.self, ghat,
                      key_count, d, rows(v_grad, b, h), nullptr);
      if (!need_codes) return;

      std::fill(s.query_bits.begin(), s.query_bits.end(), 0.0F);
      kernels::bit_gradient(op.layout, query_codes, query_mask, ghat, s.slope.data(), mixed,
                            query_count, d, s.query_bits.data());
      std::vector<float>& key_bits = tied ? s.query_bits : s.key_bits;
      if (!tied) std::fill(key_bits.begin(), key_bits.end(), 0.0F);
      kernels::bit_gradient(op.layout, key_codes, key_mask, const_rows(v, b, h), nullptr, reverse,
                            key_count, d, key_bits.data());

      const kernels::HashView view =
          hash_view(hash, h, sigma.const_data_ptr<float>()[b * heads + h]);
      float sigma_grad =
          encode_backward_head(view, q, queries, s.query_bits, q_grad, b, h, s.encode);
      if (!tied)
        sigma_grad += encode_backward_head(view, k, keys, key_bits, k_grad, b, h, s.encode);
      if (!hash.bandwidth.defined()) {
        const auto real_queries = static_cast<float>(count_real(op.masks.queries, b, query_count));
        const auto real_keys =
            tied ? 0 : static_cast<float>(count_real(op.masks.keys, b, key_count));
        const float total = std::max(1.0F, real_queries + real_keys);
        bandwidth_backward_head(view, q, query_mask, sigma_grad * real_queries / total, q_grad, b,
                                h, s.encode);
        if (!tied) {
          bandwidth_backward_head(view, k, key_mask, sigma_grad * real_keys / total, k_grad, b, h,
                                  s.encode);
        }
      }
      clear_padding(q_grad, query_mask, b, h);
      if (!tied) clear_padding(k_grad, key_mask, b, h);
    });
    return {q_grad,          k_grad,
            v_grad,          need_beta ? beta_grad.sum(0).to(torch::kFloat32) : torch::Tensor(),
            torch::Tensor(), torch::Tensor(),
            torch::Tensor(), torch::Tensor()};
  }

 private:
  static std::vector<float> scratch_for(const HashState& hash) {
    return std::vector<float>(kernels::encode_scratch_floats(
        static_cast<int>(hash.support.size(3)), static_cast<int>(hash.support.size(2)),
        static_cast<int>(hash.weight.size(1))));
  }

  /// sigma of sample b, head h: frozen, or the mean over this sample's queries and keys.
  static float bandwidth_of(const HashState& hash, const Masks& masks, const torch::Tensor& q,
                            const torch::Tensor& k, bool tied, std::int64_t b, std::int64_t h,
                            float* scratch) {
    if (hash.bandwidth.defined()) return hash.bandwidth.const_data_ptr<float>()[h];
    const kernels::HashView view = hash_view(hash, h, 0);
    const auto mean_of = [&](const torch::Tensor& x, const torch::Tensor& mask) {
      return kernels::mean_squared_distance(view.support, view.supports, view.dim,
                                            const_rows(x, b, h), x.size(2), mask_row(mask, b),
                                            scratch);
    };
    const float query_mean = mean_of(q, masks.queries);
    float sigma = query_mean;
    if (!tied) {
      const auto real_queries = static_cast<float>(count_real(masks.queries, b, q.size(2)));
      const auto real_keys = static_cast<float>(count_real(masks.keys, b, k.size(2)));
      sigma = (query_mean * real_queries + mean_of(k, masks.keys) * real_keys) /
              std::max(1.0F, real_queries + real_keys);
    }
    // Without a real token, or with every token on every support, any positive value will do.
    return sigma > 0 ? sigma : 1;
  }

  static void encode_head(const kernels::HashView& view, const torch::Tensor& x,
                          const EncodedTokens& encoded, std::int64_t b, std::int64_t h,
                          float* scratch) {
    kernels::encode(view, const_rows(x, b, h), x.size(2), EncodedTokens::head(encoded.codes, b, h),
                    nullptr, EncodedTokens::head(encoded.window, b, h), scratch);
  }

  static float encode_backward_head(const kernels::HashView& view, const torch::Tensor& x,
                                    const EncodedTokens& encoded,
                                    const std::vector<float>& code_grad,
                                    const torch::Tensor& x_grad, std::int64_t b, std::int64_t h,
                                    std::vector<float>& scratch) {
    return kernels::encode_backward(view, const_rows(x, b, h), x.size(2),
                                    EncodedTokens::head(encoded.window, b, h), code_grad.data(),
                                    rows(x_grad, b, h), scratch.data());
  }

  static void bandwidth_backward_head(const kernels::HashView& view, const torch::Tensor& x,
                                      const std::uint8_t* mask, float bandwidth_grad,
                                      const torch::Tensor& x_grad, std::int64_t b, std::int64_t h,
                                      std::vector<float>& scratch) {
    kernels::bandwidth_backward(view.support, view.supports, view.dim, const_rows(x, b, h),
                                x.size(2), mask, bandwidth_grad, rows(x_grad, b, h),
                                scratch.data());
  }

  /// Whatever a padded token holds, NaN included, its gradient is zero.
  static void clear_padding(const torch::Tensor& x_grad, const std::uint8_t* mask, std::int64_t b,
                            std::int64_t h) {
    if (mask == nullptr) return;
    for (std::int64_t n = 0; n < x_grad.size(2); ++n) {
      if (mask[n] == 0) std::fill_n(rows(x_grad, b, h)[n], x_grad.size(3), 0.0F);
    }
  }
};

void check_shapes(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v) {
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4,
              "hamming_attention: expected q, k and v with 4 dims [B, H, N, D], got ", q.sizes(),
              ", ", k.sizes(), " and ", v.sizes(),
              "\nhint: reshape to [B, heads, N, channels / heads]");
  TORCH_CHECK(q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3),
              "hamming_attention: expected k [", q.size(0), ", ", q.size(1), ", Nk, ", q.size(3),
              "] to match q, got ", k.sizes());
  TORCH_CHECK(v.size(0) == k.size(0) && v.size(1) == k.size(1) && v.size(2) == k.size(2),
              "hamming_attention: expected v [", k.size(0), ", ", k.size(1), ", ", k.size(2),
              ", Dv] to match k, got ", v.sizes());
}

/// A mask as the kernels read it: contiguous bool [B, N].
torch::Tensor checked_mask(const torch::Tensor& mask, std::int64_t samples, std::int64_t tokens,
                           const char* what) {
  if (!mask.defined()) return mask;
  TORCH_CHECK(mask.scalar_type() == torch::kBool && mask.dim() == 2 && mask.size(0) == samples &&
                  mask.size(1) == tokens,
              "hamming_attention: expected ", what, " mask bool [", samples, ", ", tokens,
              "], got ", mask.scalar_type(), " ", mask.sizes());
  return mask.contiguous();
}

Operator make_operator(Semantics semantics, std::int64_t bits, std::int64_t group_bits,
                       const torch::Tensor& beta, const Masks& masks, std::int64_t samples,
                       std::int64_t heads, std::int64_t queries, std::int64_t keys) {
  TORCH_CHECK(group_bits == 4 || group_bits == 8,
              "hamming_attention: expected group_bits 4 or 8, got ", group_bits);
  TORCH_CHECK(bits >= 1 && bits <= 64, "hamming_attention: expected 1 to 64 bits, got ", bits);
  Operator op{
      .semantics = semantics,
      .layout = {.bits = static_cast<int>(bits), .group_bits = static_cast<int>(group_bits)},
      .beta = torch::empty({0}),  // an autograd function takes no undefined tensor
      .masks = {.keys = checked_mask(masks.keys, samples, keys, "key"),
                .queries = checked_mask(masks.queries, samples, queries, "query")}};
  if (semantics == Semantics::kExponential) {
    TORCH_CHECK(beta.defined() && beta.dim() == 1 && beta.size(0) == heads,
                "hamming_attention: expected beta [", heads, "] for exponential semantics, got ",
                beta.defined() ? c10::str(beta.sizes()) : "none");
    op.beta = beta.to(torch::kFloat32).contiguous();
  }
  TORCH_CHECK(
      semantics != Semantics::kOfficial || queries == keys,
      "hamming_attention: expected as many queries as keys for official semantics, which adds "
      "each token's own value, got ",
      queries, " and ", keys);
  return op;
}

}  // namespace

torch::Tensor hamming_attention(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, const HashState& hash, Semantics semantics,
                                std::int64_t group_bits, const torch::Tensor& beta,
                                const Masks& masks) {
  check_shapes(q, k, v);
  TORCH_CHECK(hash.support.size(1) == q.size(1) && hash.support.size(3) == q.size(3),
              "hamming_attention: expected q [B, ", hash.support.size(1), ", N, ",
              hash.support.size(3), "] as the hash function, got ", q.sizes());
  const Operator op = make_operator(semantics, hash.weight.size(1), group_bits, beta, masks,
                                    q.size(0), q.size(1), q.size(2), k.size(2));
  const bool tied = q.is_same(k);
  const torch::Tensor query_rows = as_rows(q);
  const torch::Tensor key_rows = tied ? query_rows : as_rows(k);
  const torch::Tensor out = HammingAttention::apply(query_rows, key_rows, as_rows(v), op.beta, hash,
                                                    op, tied, torch::GradMode::is_enabled());
  return out.to(v.scalar_type());
}

torch::Tensor attend_codes(const torch::Tensor& query_codes, const torch::Tensor& key_codes,
                           const torch::Tensor& v, std::int64_t bits, Semantics semantics,
                           std::int64_t group_bits, const torch::Tensor& beta, const Masks& masks) {
  TORCH_CHECK(query_codes.dim() == 3 && key_codes.dim() == 3 && v.dim() == 4 &&
                  key_codes.sizes() == v.sizes().slice(0, 3) &&
                  query_codes.sizes().slice(0, 2) == v.sizes().slice(0, 2),
              "attend_codes: expected codes [B, H, N] and v [B, H, Nk, D], got ",
              query_codes.sizes(), ", ", key_codes.sizes(), " and ", v.sizes());
  TORCH_CHECK(
      query_codes.scalar_type() == torch::kInt64 && key_codes.scalar_type() == torch::kInt64,
      "attend_codes: expected packed codes as int64, got ", query_codes.scalar_type(), " and ",
      key_codes.scalar_type());
  const torch::NoGradGuard no_grad;
  const Operator op = make_operator(semantics, bits, group_bits, beta, masks, v.size(0), v.size(1),
                                    query_codes.size(2), v.size(2));
  torch::Tensor out;
  torch::Tensor inverse_weights;
  attend(op, query_codes.contiguous(), key_codes.contiguous(), as_rows(v), out, inverse_weights);
  return out.to(v.scalar_type());
}

}  // namespace ecoformer::nn
