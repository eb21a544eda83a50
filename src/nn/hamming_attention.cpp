// HammingAttention: encode, accumulate, mix, gather and their way back, over all samples and heads.
// No tensor here is larger than its inputs times a constant. Threads share heads or, where there
// are few, the tokens of a head; sums are cut at fixed tokens, so any number of threads gives the
// same bits.

#include "ecoformer/nn/hamming_attention.h"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

#include "ecoformer/kernels/tables.h"
#include "nn/head_views.h"

namespace ecoformer::nn {
namespace {

using kernels::Code;
using kernels::CodeLayout;
using kernels::ConstRows;
using kernels::Profile;
using kernels::Rows;
using kernels::Table;

// ---- Tokens, cut into parts ----

/// Tokens that go through several passes while they are in the cache; divides kTableTokens.
constexpr std::int64_t kChunk = 128;

/// Tokens first .. first + count - 1.
struct Span {
  std::int64_t first;
  std::int64_t count;
};

std::int64_t parts_of(std::int64_t tokens, std::int64_t size) {
  return (tokens + size - 1) / size;
}
Span part_at(std::int64_t index, std::int64_t size, Span whole) {
  const std::int64_t first = index * size;
  return {whole.first + first, std::min(size, whole.count - first)};
}

/// Calls body(span) for the chunks of `whole`, in order.
template <typename Body>
void for_each_chunk(Span whole, const Body& body) {
  for (std::int64_t i = 0; i < parts_of(whole.count, kChunk); ++i) body(part_at(i, kChunk, whole));
}

ConstRows from(ConstRows rows, Span span) {
  return {rows[span.first], rows.stride};
}
Rows from(Rows rows, Span span) {
  return {rows[span.first], rows.stride};
}
template <typename T>
T* from(T* items, Span span) {
  return items == nullptr ? nullptr : items + span.first;
}

// ---- Threads ----

/// Uninitialised float32 memory from LibTorch's allocator: aligned, and seen by its profiler. A
/// tensor would cost a microsecond more, which counts for short sequences.
class Floats {
 public:
  explicit Floats(std::int64_t count)
      : memory_(c10::GetCPUAllocator()->allocate(static_cast<std::size_t>(count) * sizeof(float))) {
  }
  float* data() { return static_cast<float*>(memory_.mutable_get()); }
  const float* data() const { return static_cast<const float*>(memory_.get()); }

 private:
  c10::DataPtr memory_;
};

/// Runs the parts of one head: on the head's own thread, or on all.
template <typename MakeScratch>
class Parts {
 public:
  using Scratch = std::invoke_result_t<MakeScratch>;
  Parts(bool on_all_threads, const MakeScratch& make_scratch)
      : on_all_threads_(on_all_threads), make_scratch_(make_scratch), own_(make_scratch()) {}

  /// Calls body(scratch, span) for all parts of `size` of `tokens` tokens.
  template <typename Body>
  void operator()(std::int64_t tokens, std::int64_t size, const Body& body) {
    const std::int64_t count = parts_of(tokens, size);
    // Threads take the next part when they are done with one: the last is often shorter.
    std::atomic<std::int64_t> next{0};
    const auto run = [&](Scratch& scratch) {
      for (std::int64_t i = next++; i < count; i = next++) {
        body(scratch, part_at(i, size, {0, tokens}));
      }
    };
    if (!on_all_threads_ || count <= 1) return run(own_);
    at::parallel_for(0, std::min<std::int64_t>(count, at::get_num_threads()), 1,
                     [&](std::int64_t, std::int64_t) {
                       Scratch scratch = make_scratch_();
                       run(scratch);
                     });
  }

  Scratch& own() { return own_; }

 private:
  bool on_all_threads_;
  const MakeScratch& make_scratch_;
  Scratch own_;
};

/// Calls body(head_scratch, parts, b, h) for every sample and head. Either kind of scratch is made
/// once a thread.
template <typename MakeHeadScratch, typename MakePartScratch, typename Body>
void for_each_head(std::int64_t samples, std::int64_t heads, const MakeHeadScratch& make_head,
                   const MakePartScratch& make_part, const Body& body) {
  const auto run = [&](bool parts_on_all_threads, std::int64_t begin, std::int64_t end) {
    auto scratch = make_head();
    Parts<MakePartScratch> parts(parts_on_all_threads, make_part);
    for (std::int64_t i = begin; i < end; ++i) body(scratch, parts, i / heads, i % heads);
  };
  if (samples * heads < at::get_num_threads()) return run(true, 0, samples * heads);
  at::parallel_for(0, samples * heads, 1,
                   [&](std::int64_t begin, std::int64_t end) { run(false, begin, end); });
}

// ---- Tables ----

/// One head's tables: one for every block of its tokens.
class BlockTables {
 public:
  /// Room for layouts of at most `rows` rows.
  BlockTables(std::int64_t rows, std::int64_t dim, std::int64_t tokens)
      : rows_(rows),
        dim_(dim),
        blocks_(std::max<std::int64_t>(1, parts_of(tokens, kTableTokens))),
        memory_(blocks_ * stride()) {}

  /// Takes the shape of `layout`; what the tables held is lost.
  void fit(CodeLayout layout) { rows_ = layout.total_rows(); }

  /// The table of the block that begins with token `first`, all zeros.
  Table cleared(std::int64_t first) {
    const Table table = view(first / kTableTokens);
    std::fill_n(table.values, stride(), 0.0F);
    return table;
  }

  /// The sum of all blocks.
  Table merged() {
    float* sum = memory_.data();
    for (std::int64_t block = 1; block < blocks_; ++block) {
      const float* more = memory_.data() + block * stride();
      for (std::int64_t i = 0; i < stride(); ++i) sum[i] += more[i];
    }
    return view(0);
  }

  /// Sum of the products of all entries of the merged tables of two sets for the same layout.
  double dot(const BlockTables& other) const {
    // Lanes of short float32 sums, which the compiler vectorises, added up in double.
    constexpr std::int64_t kLanes = 16;
    constexpr std::int64_t kRun = 16 * kLanes;
    const float* a = memory_.data();
    const float* b = other.memory_.data();
    double total = 0;
    for (std::int64_t first = 0; first < stride(); first += kRun) {
      const std::int64_t last = std::min(first + kRun, stride());
      float sums[kLanes] = {};
      std::int64_t i = first;
      for (; i + kLanes <= last; i += kLanes) {
        for (std::int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
      }
      for (; i < last; ++i) total += static_cast<double>(a[i]) * b[i];
      total += std::accumulate(sums, sums + kLanes, 0.0);
    }
    return total;
  }

 private:
  Table view(std::int64_t block) {
    float* values = memory_.data() + block * stride();
    return {values, values + rows_ * dim_};
  }
  std::int64_t stride() const { return rows_ * (dim_ + 1); }

  std::int64_t rows_;
  std::int64_t dim_;
  std::int64_t blocks_;
  Floats memory_;
};

// ---- The operator ----

std::int64_t count_real(const std::uint8_t* mask, std::int64_t tokens) {
  return mask == nullptr ? tokens : tokens - std::count(mask, mask + tokens, 0);
}
std::int64_t count_real(const torch::Tensor& mask, std::int64_t b, std::int64_t tokens) {
  return count_real(mask_row(mask, b), tokens);
}

/// How one head of one sample attends.
struct HeadOperator {
  CodeLayout layout;
  bool by_pairs;
  Profile profile;
  const std::uint8_t* query_mask;
  const std::uint8_t* key_mask;
};

/// What stays fixed over samples and heads.
struct Operator {
  Semantics semantics;
  CodeLayout layout;
  torch::Tensor beta;  ///< [H] float32, empty where the semantics have none
  Masks masks;

  HeadOperator head(std::int64_t b, std::int64_t h, std::int64_t queries, std::int64_t keys) const {
    const std::int64_t real_queries = count_real(masks.queries, b, queries);
    const std::int64_t real_keys = count_real(masks.keys, b, keys);
    const auto width = used_group_bits(semantics, layout.group_bits, real_queries + real_keys);
    return {.layout = {.bits = layout.bits, .group_bits = static_cast<int>(width)},
            .by_pairs = attends_by_pairs(layout.bits, width, real_keys),
            .profile = profile(h),
            .query_mask = mask_row(masks.queries, b),
            .key_mask = mask_row(masks.keys, b)};
  }

  /// Rows of the largest table that `head` may ask for.
  std::int64_t most_rows() const {
    return semantics == Semantics::kExponential ? layout.total_rows()
                                                : CodeLayout{layout.bits, 8}.total_rows();
  }

 private:
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

/// [B, H, N, D] with tokens outside, heads inside: merging the heads of the result is then a view.
torch::Tensor empty_output(const torch::Tensor& v, std::int64_t queries) {
  const auto heads = v.size(1);
  const auto dim = v.size(3);
  return at::empty_strided({v.size(0), heads, queries, dim},
                           {queries * heads * dim, dim, heads * dim, 1}, v.options());
}

/// What a head reads and writes when it attends.
struct HeadTokens {
  const Code* query_codes;
  const Code* key_codes;
  ConstRows values;
  std::int64_t queries;
  std::int64_t keys;
  int dim;
  Rows out;
  float* inverse_weights;  ///< may be null
};

/// Accumulate, mix, gather, or the sum over pairs. encode_keys(scratch, span) and
/// encode_queries(scratch, span) are called before the codes of those tokens are read.
template <typename PartsOfHead, typename EncodeKeys, typename EncodeQueries>
void attend_head(const HeadOperator& op, const HeadTokens& head, BlockTables& tables,
                 PartsOfHead& parts, const EncodeKeys& encode_keys,
                 const EncodeQueries& encode_queries) {
  const auto own_values = [&](Span span) {
    return op.profile.self != 0 ? from(head.values, span) : ConstRows(nullptr, 0);
  };
  if (op.by_pairs) {
    parts(head.keys, kChunk, encode_keys);
    Floats weights(head.keys);
    for_each_chunk({0, head.queries}, [&](Span span) {
      encode_queries(parts.own(), span);
      kernels::attend_pairs(op.layout, op.profile, from(head.query_codes, span),
                            from(op.query_mask, span), span.count, head.key_codes, op.key_mask,
                            head.keys, head.values, own_values(span), head.dim,
                            from(head.out, span), from(head.inverse_weights, span), weights.data());
    });
    return;
  }
  tables.fit(op.layout);
  // Without a single key there is still a table, of zeros.
  parts(std::max<std::int64_t>(head.keys, 1), kTableTokens, [&](auto& scratch, Span block) {
    const Table table = tables.cleared(block.first);
    block.count = std::min(block.count, head.keys);
    for_each_chunk(block, [&](Span span) {
      encode_keys(scratch, span);
      kernels::accumulate(op.layout, from(head.key_codes, span), from(op.key_mask, span),
                          from(head.values, span), nullptr, span.count, head.dim, table);
    });
  });
  const Table table = tables.merged();
  kernels::mix(op.layout, op.profile, head.dim, table);
  parts(head.queries, kChunk, [&](auto& scratch, Span span) {
    encode_queries(scratch, span);
    kernels::gather(op.layout, from(head.query_codes, span), from(op.query_mask, span), table,
                    op.profile.self, own_values(span), span.count, head.dim, from(head.out, span),
                    from(head.inverse_weights, span));
  });
}

std::int64_t encode_floats(const HashState& hash) {
  return kernels::encode_scratch_floats(static_cast<int>(hash.support.size(3)),
                                        static_cast<int>(hash.support.size(2)),
                                        static_cast<int>(hash.weight.size(1)));
}

/// sigma of sample b, head h: frozen, or the mean over this sample's queries and keys.
template <typename PartsOfHead>
float bandwidth_of(const HashState& hash, const Masks& masks, const torch::Tensor& q,
                   const torch::Tensor& k, bool tied, std::int64_t b, std::int64_t h,
                   PartsOfHead& parts) {
  if (hash.bandwidth.defined()) return hash.bandwidth.const_data_ptr<float>()[h];
  const kernels::HashView view = hash_view(hash, h, 0);
  // The mean of blocks, each by its real tokens.
  const auto mean_of = [&](const torch::Tensor& x, const torch::Tensor& mask) {
    const std::int64_t tokens = x.size(2);
    std::vector<double> sums(parts_of(tokens, kTableTokens));
    parts(tokens, kTableTokens, [&](Floats& scratch, Span block) {
      const std::uint8_t* real = from(mask_row(mask, b), block);
      sums[block.first / kTableTokens] =
          static_cast<double>(count_real(real, block.count)) *
          kernels::mean_squared_distance(view.support, view.supports, view.dim,
                                         from(const_rows(x, b, h), block), block.count, real,
                                         scratch.data());
    });
    const auto total = static_cast<double>(std::max<std::int64_t>(1, count_real(mask, b, tokens)));
    return static_cast<float>(std::accumulate(sums.begin(), sums.end(), 0.0) / total);
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

/// Encodes the tokens `span` of sample b, head h.
void encode_span(const kernels::HashView& hash, const torch::Tensor& x,
                 const EncodedTokens& encoded, std::int64_t b, std::int64_t h, Span span,
                 float* scratch) {
  kernels::encode(hash, from(const_rows(x, b, h), span), span.count,
                  from(EncodedTokens::head(encoded.codes, b, h), span), nullptr,
                  from(EncodedTokens::head(encoded.window, b, h), span), scratch);
}

/// The inputs, all float32 with contiguous channels.
struct Inputs {
  torch::Tensor q, k, v;
  HashState hash;
  bool tied;  ///< q and k are one tensor
};

/// The output, and what the way back needs.
struct Forward {
  torch::Tensor out;              ///< [B, H, Nq, D]
  torch::Tensor inverse_weights;  ///< [B, H, Nq]; undefined without gradients
  torch::Tensor sigma;            ///< [B, H]
  EncodedTokens queries, keys;
};

Forward attend(const Operator& op, const Inputs& in, bool with_gradients, bool with_windows) {
  const auto samples = in.q.size(0);
  const auto heads = in.q.size(1);
  const auto query_count = in.q.size(2);
  const auto key_count = in.k.size(2);
  const auto dim = in.v.size(3);
  Forward result{.out = empty_output(in.v, query_count),
                 .inverse_weights =
                     with_gradients ? torch::empty({samples, heads, query_count}) : torch::Tensor(),
                 .sigma = torch::empty({samples, heads}),
                 .queries = EncodedTokens::empty_like(in.q, with_windows),
                 .keys = {}};
  result.keys = in.tied ? result.queries : EncodedTokens::empty_like(in.k, with_windows);
  for_each_head(
      samples, heads, [&] { return BlockTables(op.most_rows(), dim, key_count); },
      [&] { return Floats(encode_floats(in.hash)); },
      [&](BlockTables& tables, auto& parts, std::int64_t b, std::int64_t h) {
        float& sigma = result.sigma.mutable_data_ptr<float>()[b * heads + h];
        sigma = bandwidth_of(in.hash, op.masks, in.q, in.k, in.tied, b, h, parts);
        const kernels::HashView hash = hash_view(in.hash, h, sigma);
        const HeadTokens head{
            .query_codes = EncodedTokens::head(result.queries.codes, b, h),
            .key_codes = EncodedTokens::head(result.keys.codes, b, h),
            .values = const_rows(in.v, b, h),
            .queries = query_count,
            .keys = key_count,
            .dim = static_cast<int>(dim),
            .out = rows(result.out, b, h),
            .inverse_weights = with_gradients ? result.inverse_weights.mutable_data_ptr<float>() +
                                                    (b * heads + h) * query_count
                                              : nullptr};
        attend_head(
            op.head(b, h, query_count, key_count), head, tables, parts,
            [&](Floats& scratch, Span span) {
              encode_span(hash, in.k, result.keys, b, h, span, scratch.data());
            },
            [&](Floats& scratch, Span span) {
              if (!in.tied) encode_span(hash, in.q, result.queries, b, h, span, scratch.data());
            });
      });
  return result;
}

/// The way back of `attend`, as one differentiable function.
class HammingAttention : public torch::autograd::Function<HammingAttention> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& q,
                               const torch::Tensor& k, const torch::Tensor& v,
                               const torch::Tensor& beta, const HashState& hash, const Operator& op,
                               bool tied) {
    const bool need_codes = q.requires_grad() || k.requires_grad();
    const Forward done = attend(op, {q, k, v, hash, tied}, /*with_gradients=*/true,
                                /*with_windows=*/need_codes);
    ctx->save_for_backward({q, k, v, beta, done.out, done.inverse_weights, done.sigma,
                            done.queries.codes, done.queries.window, done.keys.codes,
                            done.keys.window, hash.support, hash.mean, hash.weight, hash.bandwidth,
                            op.masks.queries, op.masks.keys});
    ctx->saved_data["semantics"] = static_cast<std::int64_t>(op.semantics);
    ctx->saved_data["group_bits"] = static_cast<std::int64_t>(op.layout.group_bits);
    ctx->saved_data["tied"] = tied;
    return done.out;
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

    struct HeadScratch {
      BlockTables forward, reverse, derivative;
      std::vector<float> sigma_grads;  // of every chunk
    };
    struct PartScratch {
      Floats values_grad, weight_grad, bit_grad, steps, encode;
    };
    const auto make_head = [&] {
      return HeadScratch{
          BlockTables(op.most_rows(), dim, key_count),
          BlockTables(op.most_rows(), dim, query_count),
          BlockTables(need_beta ? op.most_rows() : 0, dim, 0),
          std::vector<float>(parts_of(query_count, kChunk) + parts_of(key_count, kChunk))};
    };
    const auto make_part = [&] {
      return PartScratch{Floats(kChunk * dim), Floats(kChunk), Floats(kChunk * bits),
                         Floats(bits * (dim + 1)), Floats(encode_floats(hash))};
    };
    for_each_head(
        samples, heads, make_head, make_part,
        [&](HeadScratch& s, auto& parts, std::int64_t b, std::int64_t h) {
          const int d = static_cast<int>(dim);
          const HeadOperator head = op.head(b, h, query_count, key_count);
          const Code* query_codes = EncodedTokens::head(queries.codes, b, h);
          const Code* key_codes = EncodedTokens::head(keys.codes, b, h);
          const float* inverse =
              inverse_weights.const_data_ptr<float>() + (b * heads + h) * query_count;
          const ConstRows values = const_rows(v, b, h);

          // Gradients by the gathered values and weights of some queries.
          const auto through_division = [&](PartScratch& part, Span span) {
            kernels::gather_backward(from(const_rows(grad, b, h), span),
                                     from(const_rows(out, b, h), span), from(inverse, span),
                                     span.count, d, {part.values_grad.data(), dim},
                                     part.weight_grad.data());
            return ConstRows(part.values_grad.data(), dim);
          };

          s.forward.fit(head.layout);
          s.reverse.fit(head.layout);
          parts(std::max<std::int64_t>(key_count, 1), kTableTokens, [&](PartScratch&, Span block) {
            const Table table = s.forward.cleared(block.first);
            block.count = std::min(block.count, key_count);
            kernels::accumulate(head.layout, from(key_codes, block), from(head.key_mask, block),
                                from(values, block), nullptr, block.count, d, table);
          });
          parts(std::max<std::int64_t>(query_count, 1), kTableTokens,
                [&](PartScratch& part, Span block) {
                  const Table table = s.reverse.cleared(block.first);
                  block.count = std::min(block.count, query_count);
                  for_each_chunk(block, [&](Span span) {
                    const ConstRows values_grad = through_division(part, span);
                    kernels::accumulate(head.layout, from(query_codes, span),
                                        from(head.query_mask, span), values_grad,
                                        part.weight_grad.data(), span.count, d, table);
                  });
                });
          const Table mixed = s.forward.merged();
          const Table reverse = s.reverse.merged();
          if (need_beta) {
            s.derivative.fit(head.layout);
            const Table derivative = s.derivative.cleared(0);
            kernels::mix(head.layout, head.profile, d, mixed, &derivative);
            const float value = beta.const_data_ptr<float>()[h];
            // Outside its range beta acts as the bound, so its gradient is zero there.
            if (value >= 0 && value <= kMaxBeta) {
              beta_grad.data_ptr<double>()[b * heads + h] = s.reverse.dot(s.derivative);
            }
          } else {
            kernels::mix(head.layout, head.profile, d, mixed);
          }
          kernels::mix(head.layout, head.profile, d, reverse);

          parts(key_count, kChunk, [&](PartScratch& part, Span span) {
            const ConstRows own =
                head.profile.self != 0 ? through_division(part, span) : ConstRows(nullptr, 0);
            kernels::gather(head.layout, from(key_codes, span), from(head.key_mask, span),
                            {reverse.values, nullptr}, head.profile.self, own, span.count, d,
                            from(rows(v_grad, b, h), span), nullptr);
          });
          if (!need_codes) return;

          const kernels::HashView view =
              hash_view(hash, h, sigma.const_data_ptr<float>()[b * heads + h]);
          const auto add_query_bits = [&](PartScratch& part, Span span) {
            const ConstRows values_grad = through_division(part, span);
            kernels::bit_gradient(head.layout, head.profile.kind, from(query_codes, span),
                                  from(head.query_mask, span), values_grad, part.weight_grad.data(),
                                  mixed, span.count, d, part.bit_grad.data(), part.steps.data());
          };
          const auto add_key_bits = [&](PartScratch& part, Span span) {
            kernels::bit_gradient(head.layout, head.profile.kind, from(key_codes, span),
                                  from(head.key_mask, span), from(values, span), nullptr, reverse,
                                  span.count, d, part.bit_grad.data(), part.steps.data());
          };
          const auto through_hash = [&](const torch::Tensor& x, const EncodedTokens& encoded,
                                        const torch::Tensor& x_grad, std::int64_t first_chunk,
                                        const auto& add_bits) {
            parts(x.size(2), kChunk, [&](PartScratch& part, Span span) {
              std::fill_n(part.bit_grad.data(), span.count * bits, 0.0F);
              add_bits(part, span);
              s.sigma_grads[first_chunk + span.first / kChunk] = kernels::encode_backward(
                  view, from(const_rows(x, b, h), span), span.count,
                  from(EncodedTokens::head(encoded.window, b, h), span), part.bit_grad.data(),
                  from(rows(x_grad, b, h), span), part.encode.data());
            });
          };
          std::fill(s.sigma_grads.begin(), s.sigma_grads.end(), 0.0F);
          if (tied) {
            through_hash(q, queries, q_grad, 0, [&](PartScratch& part, Span span) {
              add_query_bits(part, span);
              add_key_bits(part, span);
            });
          } else {
            through_hash(q, queries, q_grad, 0, add_query_bits);
            through_hash(k, keys, k_grad, parts_of(query_count, kChunk), add_key_bits);
          }
          if (!hash.bandwidth.defined()) {
            const auto sigma_grad = static_cast<float>(
                std::accumulate(s.sigma_grads.begin(), s.sigma_grads.end(), 0.0));
            const auto real_queries =
                static_cast<float>(count_real(op.masks.queries, b, query_count));
            const auto real_keys =
                tied ? 0 : static_cast<float>(count_real(op.masks.keys, b, key_count));
            const float total = std::max(1.0F, real_queries + real_keys);
            const auto through_bandwidth = [&](const torch::Tensor& x, const std::uint8_t* mask,
                                               float share, const torch::Tensor& x_grad) {
              kernels::bandwidth_backward(
                  view.support, view.supports, view.dim, const_rows(x, b, h), x.size(2), mask,
                  sigma_grad * share / total, rows(x_grad, b, h), parts.own().encode.data());
            };
            through_bandwidth(q, head.query_mask, real_queries, q_grad);
            if (!tied) through_bandwidth(k, head.key_mask, real_keys, k_grad);
          }
          clear_padding(q_grad, head.query_mask, b, h);
          if (!tied) clear_padding(k_grad, head.key_mask, b, h);
        });
    return {q_grad,          k_grad,
            v_grad,          need_beta ? beta_grad.sum(0).to(torch::kFloat32) : torch::Tensor(),
            torch::Tensor(), torch::Tensor(),
            torch::Tensor()};
  }

 private:
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

std::int64_t used_group_bits(Semantics semantics, std::int64_t group_bits,
                             std::int64_t real_tokens) {
  if (semantics == Semantics::kExponential) return group_bits;
  return real_tokens < 1024 ? 4 : 8;
}

bool attends_by_pairs(std::int64_t bits, std::int64_t group_bits, std::int64_t real_keys) {
  const CodeLayout layout{.bits = static_cast<int>(bits),
                          .group_bits = static_cast<int>(group_bits)};
  // A mix takes w operations a row and channel, a pair two and the lookup of its weight: measured,
  // as much as five (attend_by_pairs and attend_by_tables in benchmarks/kernels_bench.cpp).
  return 5 * real_keys * real_keys < 2 * layout.total_rows() * layout.width(0);
}

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
  const torch::Tensor value_rows = as_rows(v);
  const bool differentiable =
      torch::GradMode::is_enabled() && (query_rows.requires_grad() || key_rows.requires_grad() ||
                                        value_rows.requires_grad() || op.beta.requires_grad());
  const torch::Tensor out =
      differentiable
          ? HammingAttention::apply(query_rows, key_rows, value_rows, op.beta, hash, op, tied)
          : attend(op, {query_rows, key_rows, value_rows, hash, tied}, false, false).out;
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
  const torch::Tensor query_rows = query_codes.contiguous();
  const torch::Tensor key_rows = key_codes.contiguous();
  const torch::Tensor values = as_rows(v);
  const torch::Tensor out = empty_output(values, query_rows.size(2));
  struct Nothing {};
  const auto known = [](Nothing&, Span) {};
  for_each_head(
      v.size(0), v.size(1), [&] { return BlockTables(op.most_rows(), v.size(3), v.size(2)); },
      [] { return Nothing(); },
      [&](BlockTables& tables, auto& parts, std::int64_t b, std::int64_t h) {
        const HeadTokens head{.query_codes = EncodedTokens::head(query_rows, b, h),
                              .key_codes = EncodedTokens::head(key_rows, b, h),
                              .values = const_rows(values, b, h),
                              .queries = query_rows.size(2),
                              .keys = v.size(2),
                              .dim = static_cast<int>(v.size(3)),
                              .out = rows(out, b, h),
                              .inverse_weights = nullptr};
        attend_head(op.head(b, h, head.queries, head.keys), head, tables, parts, known, known);
      });
  return out.to(v.scalar_type());
}

}  // namespace ecoformer::nn
