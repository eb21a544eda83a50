// Times the kernels on one head: nanoseconds a token for the passes over tokens, microseconds a
// table for the mixes. `--target <name>` picks an instruction set; other flags are Google
// Benchmark's.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "ecoformer/kernels/encode.h"
#include "ecoformer/kernels/tables.h"
#include "ecoformer/kernels/targets.h"
#include "peak.h"

namespace {

using namespace ecoformer::kernels;

constexpr int kDim = 32;
constexpr int kBits = 16;
constexpr int kSupports = 25;

/// Memory from the start of a cache line, as LibTorch's tensors have it: rows of 32 channels then
/// never lie across one line more than they fill.
template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kLine));
  }
  void deallocate(T* items, std::size_t /*count*/) { ::operator delete(items, kLine); }
  bool operator==(const LineAllocator&) const = default;
};
using Floats = std::vector<float, LineAllocator<float>>;

Floats normal_floats(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  Floats values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

/// One head with random tokens, codes and tables.
struct Head {
  explicit Head(std::int64_t token_count, int group_bits = 8)
      : tokens(token_count),
        layout{kBits, group_bits},
        x(normal_floats(tokens * kDim, 1)),
        support(normal_floats(std::size_t{kSupports} * kDim, 2)),
        mean(kSupports, 0.4F),
        weight(normal_floats(std::size_t{kBits} * kSupports, 3)),
        scratch(encode_scratch_floats(kDim, kSupports, kBits)),
        codes(tokens),
        values(layout.total_rows() * kDim, 1.0F),
        weights(layout.total_rows(), 1.0F),
        out(tokens * kDim),
        bit_grad(tokens * kBits, 1.0F) {
    encode(hash(), {x.data(), kDim}, tokens, codes.data(), nullptr, nullptr, scratch.data());
  }

  HashView hash() const {
    return {.dim = kDim,
            .supports = kSupports,
            .bits = kBits,
            .support = support.data(),
            .mean = mean.data(),
            .weight = weight.data(),
            .bandwidth = 1.7F};
  }
  Table table() { return {values.data(), weights.data()}; }
  ConstRows rows() const { return {x.data(), kDim}; }
  Rows out_rows() { return {out.data(), kDim}; }

  std::int64_t tokens;
  CodeLayout layout;
  Floats x, support, mean, weight, scratch;
  std::vector<Code> codes;
  Floats values, weights, out, bit_grad;
};

/// Reports the time a token beside Google Benchmark's items a second.
void count_tokens(benchmark::State& state, std::int64_t tokens) {
  const std::int64_t items = state.iterations() * tokens;
  state.SetItemsProcessed(items);
  state.counters["per_token"] = benchmark::Counter(
      static_cast<double>(items), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void encode_tokens(benchmark::State& state, Precision precision) {
  if (precision == Precision::kBfloat16 && !has_bfloat16_encode()) {
    state.SkipWithError("no AMX here");
    return;
  }
  Head head(state.range(0));
  HashView hash = head.hash();
  hash.precision = precision;
  while (state.KeepRunning()) {
    encode(hash, head.rows(), head.tokens, head.codes.data(), nullptr, nullptr,
           head.scratch.data());
    benchmark::ClobberMemory();
  }
  count_tokens(state, head.tokens);
}

void bandwidth_of_tokens(benchmark::State& state) {
  Head head(state.range(0));
  while (state.KeepRunning()) {
    benchmark::DoNotOptimize(mean_squared_distance(head.support.data(), kSupports, kDim,
                                                   head.rows(), head.tokens, nullptr,
                                                   head.scratch.data()));
  }
  count_tokens(state, head.tokens);
}

void encode_tokens_backward(benchmark::State& state) {
  Head head(state.range(0));
  const std::vector<Code> window(head.tokens, ~Code{0});
  while (state.KeepRunning()) {
    benchmark::DoNotOptimize(encode_backward(head.hash(), head.rows(), head.tokens, window.data(),
                                             head.bit_grad.data(), head.out_rows(),
                                             head.scratch.data()));
  }
  count_tokens(state, head.tokens);
}

void accumulate_tokens(benchmark::State& state) {
  Head head(state.range(0), static_cast<int>(state.range(1)));
  while (state.KeepRunning()) {
    accumulate(head.layout, head.codes.data(), nullptr, head.rows(), nullptr, head.tokens, kDim,
               head.table());
    benchmark::ClobberMemory();
  }
  count_tokens(state, head.tokens);
}

void gather_tokens(benchmark::State& state) {
  Head head(state.range(0), static_cast<int>(state.range(1)));
  while (state.KeepRunning()) {
    gather(head.layout, head.codes.data(), nullptr, head.table(), 0, head.rows(), head.tokens, kDim,
           head.out_rows(), nullptr);
    benchmark::ClobberMemory();
  }
  count_tokens(state, head.tokens);
}

void gather_tokens_backward(benchmark::State& state) {
  Head head(state.range(0));
  const Floats inverse_weights(head.tokens, 0.5F);
  Floats values_grad(head.x.size());
  Floats weight_grad(head.tokens);
  while (state.KeepRunning()) {
    gather_backward(head.rows(), head.out_rows(), inverse_weights.data(), head.tokens, kDim,
                    {values_grad.data(), kDim}, weight_grad.data());
    benchmark::ClobberMemory();
  }
  count_tokens(state, head.tokens);
}

/// The yardstick of the passes over tables: what they must at least read and write.
void copy_tokens(benchmark::State& state) {
  Head head(state.range(0));
  while (state.KeepRunning()) {
    std::memcpy(head.out.data(), head.x.data(), head.x.size() * sizeof(float));
    benchmark::ClobberMemory();
  }
  count_tokens(state, head.tokens);
}

void bit_gradient_tokens(benchmark::State& state, Profile::Kind kind) {
  Head head(state.range(0), static_cast<int>(state.range(1)));
  Floats steps(std::size_t{kBits} * (kDim + 1));
  while (state.KeepRunning()) {
    bit_gradient(head.layout, kind, head.codes.data(), nullptr, head.rows(), nullptr, head.table(),
                 head.tokens, kDim, head.bit_grad.data(), steps.data());
    benchmark::ClobberMemory();
  }
  count_tokens(state, head.tokens);
}

/// Repeated mixing would overflow, so every mix starts from the same table; copying it is included.
void mix_table(benchmark::State& state, const Profile& profile) {
  Head head(0, static_cast<int>(state.range(0)));
  const Floats values = head.values;
  const Floats weights = head.weights;
  while (state.KeepRunning()) {
    head.values = values;
    head.weights = weights;
    mix(head.layout, profile, kDim, head.table());
    benchmark::ClobberMemory();
  }
}

void mix_table_with_derivative(benchmark::State& state) {
  Head head(0, static_cast<int>(state.range(0)));
  const Floats values = head.values;
  const Floats weights = head.weights;
  Floats value_slopes(values.size());
  Floats weight_slopes(weights.size());
  const Table derivative{value_slopes.data(), weight_slopes.data()};
  while (state.KeepRunning()) {
    head.values = values;
    head.weights = weights;
    mix(head.layout, exponential_profile(1), kDim, head.table(), &derivative);
    benchmark::ClobberMemory();
  }
}

/// Attention without the hash by tables, cleared, accumulated, mixed and gathered, ...
void attend_by_tables(benchmark::State& state, const Profile& profile) {
  Head head(state.range(0), static_cast<int>(state.range(1)));
  while (state.KeepRunning()) {
    std::fill(head.values.begin(), head.values.end(), 0.0F);
    std::fill(head.weights.begin(), head.weights.end(), 0.0F);
    accumulate(head.layout, head.codes.data(), nullptr, head.rows(), nullptr, head.tokens, kDim,
               head.table());
    mix(head.layout, profile, kDim, head.table());
    gather(head.layout, head.codes.data(), nullptr, head.table(), 0, head.rows(), head.tokens, kDim,
           head.out_rows(), nullptr);
    benchmark::ClobberMemory();
  }
  count_tokens(state, head.tokens);
}

/// ... and pair by pair.
void attend_by_pairs(benchmark::State& state, const Profile& profile) {
  Head head(state.range(0), static_cast<int>(state.range(1)));
  Floats weights(head.tokens);
  while (state.KeepRunning()) {
    attend_pairs(head.layout, profile, head.codes.data(), nullptr, head.tokens, head.codes.data(),
                 nullptr, head.tokens, head.rows(), head.rows(), kDim, head.out_rows(), nullptr,
                 weights.data());
    benchmark::ClobberMemory();
  }
  count_tokens(state, head.tokens);
}

const std::vector<std::int64_t> kFewTokens = {16, 25, 36, 49, 64, 81, 100};
const std::vector<std::int64_t> kTokens = {196, 3136, 65536};
const std::vector<std::int64_t> kGroupBits = {4, 8};

BENCHMARK(copy_tokens)->ArgNames({"tokens"})->ArgsProduct({kTokens});
BENCHMARK_CAPTURE(encode_tokens, float32, Precision::kFloat32)
    ->ArgNames({"tokens"})
    ->ArgsProduct({kTokens});
BENCHMARK_CAPTURE(encode_tokens, bfloat16, Precision::kBfloat16)
    ->ArgNames({"tokens"})
    ->ArgsProduct({kTokens});
BENCHMARK(bandwidth_of_tokens)->ArgNames({"tokens"})->ArgsProduct({kTokens});
BENCHMARK(encode_tokens_backward)->ArgNames({"tokens"})->ArgsProduct({kTokens});
BENCHMARK(accumulate_tokens)->ArgNames({"tokens", "w"})->ArgsProduct({kTokens, kGroupBits});
BENCHMARK(gather_tokens)->ArgNames({"tokens", "w"})->ArgsProduct({kTokens, kGroupBits});
BENCHMARK(gather_tokens_backward)->ArgNames({"tokens"})->ArgsProduct({kTokens});
BENCHMARK_CAPTURE(bit_gradient_tokens, linear, Profile::Kind::kLinear)
    ->ArgNames({"tokens", "w"})
    ->ArgsProduct({kTokens, kGroupBits});
BENCHMARK_CAPTURE(bit_gradient_tokens, exponential, Profile::Kind::kExponential)
    ->ArgNames({"tokens", "w"})
    ->ArgsProduct({kTokens, kGroupBits});
BENCHMARK_CAPTURE(attend_by_tables, linear, paper_profile(kBits))
    ->ArgNames({"tokens", "w"})
    ->ArgsProduct({kFewTokens, {4}});
BENCHMARK_CAPTURE(attend_by_pairs, linear, paper_profile(kBits))
    ->ArgNames({"tokens", "w"})
    ->ArgsProduct({kFewTokens, {4}});
BENCHMARK_CAPTURE(attend_by_tables, exponential, exponential_profile(1))
    ->ArgNames({"tokens", "w"})
    ->ArgsProduct({kFewTokens, kGroupBits});
BENCHMARK_CAPTURE(attend_by_pairs, exponential, exponential_profile(1))
    ->ArgNames({"tokens", "w"})
    ->ArgsProduct({kFewTokens, kGroupBits});
BENCHMARK_CAPTURE(mix_table, linear, paper_profile(kBits))->ArgName("w")->Arg(4)->Arg(8);
BENCHMARK_CAPTURE(mix_table, exponential, exponential_profile(1))->ArgName("w")->Arg(4)->Arg(8);
BENCHMARK(mix_table_with_derivative)->ArgName("w")->Arg(4)->Arg(8);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc == 3 && std::strcmp(argv[1], "--target") == 0) {
    if (!ecoformer::kernels::force_target(argv[2])) {
      std::fprintf(stderr, "--target: expected an instruction set of this machine, got %s\n",
                   argv[2]);
      return 2;
    }
  } else if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 2;
  }
  benchmark::AddCustomContext("target", ecoformer::kernels::active_target());
  const double peak = ecoformer::benchmarks::multiply_adds_per_ns();
  benchmark::AddCustomContext("multiply-adds a nanosecond, at best", std::to_string(peak));
  benchmark::AddCustomContext("encode's multiply-adds alone, nanoseconds a token",
                              std::to_string(kSupports * (kDim + kBits) / peak));
  benchmark::RunSpecifiedBenchmarks();
}
