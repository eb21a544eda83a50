// HashFunction: buffers in the authors' names, and calls into the encode kernel head by head.

#include "ecoformer/nn/hash_function.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <vector>

#include "ecoformer/base/error.h"
#include "ecoformer/kernels/targets.h"
#include "nn/head_views.h"

namespace ecoformer::nn {
namespace {

HashOptions checked(const HashOptions& options) {
  if (options.heads < 1 || options.dim < 1 || options.supports < 1) {
    throw Error(fmt::format(
        "hash function: expected heads, dim and supports of at least 1, got {}, {} and {}",
        options.heads, options.dim, options.supports));
  }
  if (options.bits < 1 || options.bits > 64) {
    throw Error(fmt::format("hash function: expected 1 to 64 bits, got {}", options.bits));
  }
  return options;
}

/// Runs the encode kernel over all samples and heads.
void encode_all(const HashOptions& options, const HashState& state, const torch::Tensor& x,
                const torch::Tensor& mask, torch::Tensor& codes, torch::Tensor* projection) {
  TORCH_CHECK(x.dim() == 4 && x.size(1) == options.heads && x.size(3) == options.dim,
              "encode: expected x [B, ", options.heads, ", N, ", options.dim, "], got ", x.sizes());
  const torch::Tensor tokens = as_rows(x.detach());
  const torch::Tensor real = mask.defined() ? mask.contiguous() : mask;
  const auto samples = x.size(0);
  const auto length = x.size(2);
  const auto scratch_floats = kernels::encode_scratch_floats(static_cast<int>(options.dim),
                                                             static_cast<int>(options.supports),
                                                             static_cast<int>(options.bits));
  codes = torch::empty({samples, options.heads, length}, torch::kInt64);
  if (projection != nullptr) {
    *projection = torch::empty({samples, options.heads, length, options.bits});
  }
  at::parallel_for(0, samples * options.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch(scratch_floats);
    for (std::int64_t i = begin; i < end; ++i) {
      const auto b = i / options.heads;
      const auto h = i % options.heads;
      kernels::HashView view = hash_view(state, h, 0);
      view.bandwidth = state.bandwidth.defined()
                           ? state.bandwidth.const_data_ptr<float>()[h]
                           : kernels::mean_squared_distance(view.support, view.supports, view.dim,
                                                            const_rows(tokens, b, h), length,
                                                            mask_row(real, b), scratch.data());
      kernels::encode(view, const_rows(tokens, b, h), length,
                      reinterpret_cast<kernels::Code*>(codes.data_ptr<std::int64_t>()) + i * length,
                      projection == nullptr
                          ? nullptr
                          : projection->data_ptr<float>() + i * length * options.bits,
                      nullptr, scratch.data());
    }
  });
}

void require_bfloat16() {
  if (kernels::has_bfloat16_encode()) return;
  throw InputError(fmt::format(
      "hash precision: expected a processor with AMX, and avx3 as the instruction set, for "
      "bfloat16, got {}",
      kernels::active_target()));
}

}  // namespace

HashFunctionImpl::HashFunctionImpl(const HashOptions& options, std::uint64_t seed)
    : options_(checked(options)) {
  const auto [heads, dim, bits, supports, bandwidth] = options_;
  A = register_buffer(
      "A", torch::randn({heads, bits, supports}, at::make_generator<at::CPUGeneratorImpl>(seed),
                        torch::kFloat32));
  mvec = register_buffer("mvec", torch::zeros({1, heads, 1, supports}));
  anchor = register_buffer("anchor", torch::zeros({1, heads, supports, dim}));
  if (bandwidth == Bandwidth::kFrozen) sigma = register_buffer("sigma", torch::ones({heads}));
}

bool HashFunctionImpl::is_learned() const {
  // Called before every attention: learned supports are told by their first value, in no time.
  const torch::Tensor support = as_rows(anchor).contiguous();
  const float* const first = support.const_data_ptr<float>();
  return std::any_of(first, first + support.numel(), [](float s) { return s != 0; });
}

HashState HashFunctionImpl::state() const {
  if (!is_learned()) {
    throw Error(
        "hash function: expected learned supports, got none\n"
        "hint: learn the hash functions (HashLearner) or load a converted checkpoint");
  }
  return {as_rows(anchor).contiguous(), as_rows(mvec).contiguous(), as_rows(A).contiguous(),
          sigma.defined() ? as_rows(sigma).contiguous() : sigma, precision_};
}

void HashFunctionImpl::set_precision(kernels::Precision precision) {
  if (precision == kernels::Precision::kBfloat16) require_bfloat16();
  precision_ = precision;
}

double HashFunctionImpl::share_changed_by_bfloat16(const torch::Tensor& x,
                                                   const torch::Tensor& mask) const {
  require_bfloat16();
  HashState state = this->state();
  torch::Tensor exact, rounded;
  state.precision = kernels::Precision::kFloat32;
  encode_all(options_, state, x, mask, exact, nullptr);
  state.precision = kernels::Precision::kBfloat16;
  encode_all(options_, state, x, mask, rounded, nullptr);
  return unpack_codes(exact, options_.bits)
      .ne(unpack_codes(rounded, options_.bits))
      .to(torch::kFloat64)
      .mean()
      .item<double>();
}

torch::Tensor HashFunctionImpl::encode(const torch::Tensor& x, const torch::Tensor& mask) const {
  torch::Tensor codes;
  encode_all(options_, state(), x, mask, codes, nullptr);
  return codes;
}

torch::Tensor HashFunctionImpl::project(const torch::Tensor& x, const torch::Tensor& mask) const {
  torch::Tensor codes;
  torch::Tensor projection;
  encode_all(options_, state(), x, mask, codes, &projection);
  return projection;
}

torch::Tensor unpack_codes(const torch::Tensor& codes, std::int64_t bits) {
  const torch::Tensor set =
      codes.unsqueeze(-1).bitwise_right_shift(torch::arange(bits, torch::kInt64)).bitwise_and(1);
  return (2 * set - 1).to(torch::kInt8);
}

}  // namespace ecoformer::nn
