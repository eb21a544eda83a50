// The attention operators side by side at one length: softmax, the authors' operations, ours.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "ecoformer/nn/hash_learner.h"

namespace ecoformer::bench {

/// What is measured: one sample of random float32 tokens.
struct OperatorShape {
  std::int64_t tokens = 3136;
  std::int64_t heads = 1;
  std::int64_t dim = 32;
  std::int64_t bits = 16;
  std::int64_t supports = 25;
  std::int64_t group_bits = 8;
  kernels::Precision hash_precision = kernels::Precision::kFloat32;  ///< of `eco`, forward only
};

/// Which run of an operator is measured.
enum class Pass {
  kForward,   ///< in inference mode
  kTraining,  ///< forward and backward, gradients of queries, keys and values
};

/// One contender's figures.
struct Measurement {
  std::string name;
  Timing timing;                 ///< seconds a run
  std::int64_t extra_bytes = 0;  ///< peak beyond the inputs, results included
};

/// Share of the bits of the codes of `measure_operators`' queries and keys that bfloat16 changes.
/// Throws InputError where this machine does not hash in bfloat16.
double share_changed_by_bfloat16(const OperatorShape& shape);

/// Names of the contenders in the order in which they are measured; the first is the yardstick,
/// `softmax`: LibTorch's scaled_dot_product_attention. `libtorch official` is the authors'
/// attention in plain LibTorch operations; `eco S` is ours with semantics S: tied with the
/// bandwidth of the input for official, tied and frozen for paper, untied and frozen for
/// exponential.
std::vector<std::string> operator_names();

/// Measures the contenders that `names` lists, in turn, for about `seconds`. Throws InputError for
/// an unknown name.
std::vector<Measurement> measure_operators(const OperatorShape& shape, Pass pass,
                                           const std::vector<std::string>& names, double seconds);

/// Measures learning the hash functions of tied tokens: `official`, the authors' dense formulation,
/// first and then `ours`.
std::vector<Measurement> measure_hash_learning(const OperatorShape& shape, double seconds);

/// The length at which `ratio` (times faster than the yardstick) passes 1, by interpolation between
/// logarithms of `tokens`, ascending. The first length if it is faster there already, 0 if it never
/// is.
double crossover(const std::vector<std::int64_t>& tokens, const std::vector<double>& ratio);

}  // namespace ecoformer::bench
