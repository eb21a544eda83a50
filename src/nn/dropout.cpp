// Dropout whose mask is a function of one seed and the element's index: nothing is stored for the
// backward pass, and any number of threads draws the same.

#include "ecoformer/nn/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

#include "ecoformer/base/error.h"

namespace ecoformer::nn {
namespace {

/// Elements that share a key; an index within stays below 2^32.
constexpr std::int64_t kChunk = 1 << 16;

/// A permutation of 64 bits whose outputs look independent (SplitMix64; Steele, Lea, Flood 2014).
std::uint64_t mixed(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15U;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
  z = (z ^ z >> 27) * 0x94D049BB133111EBU;
  return z ^ z >> 31;
}

/// The same for 32 bits (Wellons' search for hash functions, 2018), which vectorises.
std::uint32_t mixed(std::uint32_t z) {
  z = (z ^ z >> 16) * 0x7FEB352DU;
  z = (z ^ z >> 15) * 0x846CA68BU;
  return z ^ z >> 16;
}

/// out[i] = x[i] / (1 - probability), or 0 with `probability`.
void drop(const float* x, float* out, std::int64_t size, double probability, std::uint64_t seed) {
  const auto dropped = static_cast<std::uint32_t>(probability * 4294967296.0);
  const auto scale = static_cast<float>(1 / (1 - probability));
  const std::int64_t chunks = (size + kChunk - 1) / kChunk;
  at::parallel_for(0, chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      const std::uint64_t key = mixed(seed + static_cast<std::uint64_t>(chunk));
      const auto low = static_cast<std::uint32_t>(key);
      const auto high = static_cast<std::uint32_t>(key >> 32);
      const std::int64_t first = chunk * kChunk;
      const auto count = static_cast<std::uint32_t>(std::min(kChunk, size - first));
      for (std::uint32_t i = 0; i < count; ++i) {
        const bool kept = mixed(mixed(i ^ low) + high) >= dropped;
        out[first + i] = kept ? x[first + i] * scale : 0.0F;
      }
    }
  });
}

class SeededDropout : public torch::autograd::Function<SeededDropout> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x,
                               double probability, std::int64_t seed) {
    ctx->saved_data["probability"] = probability;
    ctx->saved_data["seed"] = seed;
    const torch::Tensor in = x.to(torch::kFloat32).contiguous();
    const torch::Tensor out = torch::empty_like(in);
    drop(in.const_data_ptr<float>(), out.data_ptr<float>(), in.numel(), probability,
         static_cast<std::uint64_t>(seed));
    return out.to(x.scalar_type());
  }
  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* ctx,
                                               const torch::autograd::tensor_list& grads) {
    return {
        apply(grads[0], ctx->saved_data["probability"].toDouble(), ctx->saved_data["seed"].toInt()),
        torch::Tensor(), torch::Tensor()};
  }
};

double checked(const char* layer, double probability) {
  if (!(probability >= 0 && probability < 1)) {
    throw Error(fmt::format("{}: expected a probability in [0, 1), got {}", layer, probability));
  }
  return probability;
}

void check_generator(const char* layer, const at::Generator& generator) {
  if (generator.defined()) return;
  throw Error(
      fmt::format("{}: expected a generator for training, got none\n"
                  "hint: call use_generator on the model before training it",
                  layer));
}

}  // namespace

DropoutImpl::DropoutImpl(double probability) : probability_(checked("dropout", probability)) {}

torch::Tensor DropoutImpl::forward(const torch::Tensor& x) {
  if (!is_training() || probability_ == 0) return x;
  check_generator("dropout", generator_);
  const std::scoped_lock lock(generator_.mutex());
  const std::uint64_t seed = at::check_generator<at::CPUGeneratorImpl>(generator_)->random64();
  return SeededDropout::apply(x, probability_, static_cast<std::int64_t>(seed));
}

DropPathImpl::DropPathImpl(double probability) : probability_(checked("drop path", probability)) {}

torch::Tensor DropPathImpl::forward(const torch::Tensor& x) {
  if (!is_training() || probability_ == 0) return x;
  check_generator("drop path", generator_);
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  const double kept = 1 - probability_;
  return x * torch::empty(shape, x.options()).bernoulli_(kept, generator_).div_(kept);
}

void use_generator(torch::nn::Module& model, const at::Generator& generator) {
  for (const auto& module : model.modules()) {
    if (auto* dropout = module->as<Dropout>()) dropout->use_generator(generator);
    if (auto* path = module->as<DropPath>()) path->use_generator(generator);
  }
}

}  // namespace ecoformer::nn
