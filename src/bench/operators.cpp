// Contenders behind one signature, run on the same tokens.

#include "bench/operators.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "bench/official_operations.h"
#include "bench/peak_memory.h"
#include "ecoformer/base/error.h"
#include "ecoformer/nn/hamming_attention.h"

namespace ecoformer::bench {
namespace {

using nn::Bandwidth;
using nn::Semantics;

/// Random tokens and a hash function whose supports are drawn from them.
struct Inputs {
  torch::Tensor q, k, v, grad;
  nn::HashFunction frozen = nullptr;
  nn::HashFunction per_input = nullptr;
  torch::Tensor beta;
};

nn::HashFunction hash_function(const OperatorShape& shape, Bandwidth bandwidth,
                               const torch::Tensor& tokens) {
  nn::HashFunction hash(nn::HashOptions{.heads = shape.heads,
                                        .dim = shape.dim,
                                        .bits = shape.bits,
                                        .supports = shape.supports,
                                        .bandwidth = bandwidth});
  const torch::Tensor unit = tokens / tokens.norm(2, -1, /*keepdim=*/true);
  const torch::Tensor support = unit.slice(2, 0, shape.supports);
  const torch::Tensor distance = 2 - 2 * torch::matmul(unit, support.transpose(-1, -2));
  const torch::Tensor sigma = distance.mean({0, 2, 3});
  hash->anchor.copy_(support);
  hash->mvec.copy_(torch::exp(-distance / (2 * sigma.view({1, -1, 1, 1}))).mean(2, true));
  if (hash->sigma.defined()) hash->sigma.copy_(sigma);
  hash->set_precision(shape.hash_precision);
  return hash;
}

Inputs make_inputs(const OperatorShape& shape) {
  const torch::NoGradGuard no_grad;
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  const auto tokens = [&](std::int64_t count) {
    return torch::randn({1, shape.heads, count, shape.dim}, generator, torch::kFloat32);
  };
  Inputs inputs{.q = tokens(shape.tokens),
                .k = tokens(shape.tokens),
                .v = tokens(shape.tokens),
                .grad = tokens(shape.tokens),
                .beta = torch::full({shape.heads}, 0.5F)};
  // More tokens than there are supports, however short the sequence.
  const torch::Tensor sample = tokens(std::max<std::int64_t>(shape.supports, 256));
  inputs.frozen = hash_function(shape, Bandwidth::kFrozen, sample);
  inputs.per_input = hash_function(shape, Bandwidth::kPerInput, sample);
  return inputs;
}

using Attend = std::function<torch::Tensor(const Inputs&, const OperatorShape&)>;

torch::Tensor eco(const Inputs& in, const OperatorShape& shape, Semantics semantics, bool tied,
                  const nn::HashFunction& hash) {
  return nn::hamming_attention(in.q, tied ? in.q : in.k, in.v, hash->state(), semantics,
                               shape.group_bits, in.beta);
}

const std::vector<std::pair<std::string, Attend>>& contenders() {
  static const std::vector<std::pair<std::string, Attend>> all{
      {"softmax",
       [](const Inputs& in, const OperatorShape&) {
         return at::scaled_dot_product_attention(in.q, in.k, in.v);
       }},
      {"libtorch official",
       [](const Inputs& in, const OperatorShape&) {
         return official_operations(in.q, in.v, in.per_input->state());
       }},
      {"eco official",
       [](const Inputs& in, const OperatorShape& shape) {
         return eco(in, shape, Semantics::kOfficial, true, in.per_input);
       }},
      {"eco paper",
       [](const Inputs& in, const OperatorShape& shape) {
         return eco(in, shape, Semantics::kPaper, true, in.frozen);
       }},
      {"eco exponential",
       [](const Inputs& in, const OperatorShape& shape) {
         return eco(in, shape, Semantics::kExponential, false, in.frozen);
       }},
      {"eco exponential tied",
       [](const Inputs& in, const OperatorShape& shape) {
         return eco(in, shape, Semantics::kExponential, true, in.frozen);
       }},
  };
  return all;
}

std::vector<Measurement> measure(
    const std::vector<std::pair<std::string, std::function<void()>>>& tasks, double seconds) {
  std::vector<std::function<void()>> runs;
  runs.reserve(tasks.size());
  for (const auto& [name, run] : tasks) runs.push_back(run);
  const std::vector<Timing> timings = time_in_turn(runs, seconds);
  std::vector<Measurement> measurements;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    measurements.push_back({.name = tasks[i].first,
                            .timing = timings[i],
                            .extra_bytes = peak_tensor_bytes(tasks[i].second)});
  }
  return measurements;
}

}  // namespace

std::vector<std::string> operator_names() {
  std::vector<std::string> names;
  for (const auto& [name, attend] : contenders()) names.push_back(name);
  return names;
}

double share_changed_by_bfloat16(const OperatorShape& shape) {
  const Inputs inputs = make_inputs(shape);
  return inputs.frozen->share_changed_by_bfloat16(torch::cat({inputs.q, inputs.k}, 2));
}

std::vector<Measurement> measure_operators(const OperatorShape& shape, Pass pass,
                                           const std::vector<std::string>& names, double seconds) {
  Inputs inputs = make_inputs(shape);
  if (pass == Pass::kTraining) {
    for (torch::Tensor* leaf : {&inputs.q, &inputs.k, &inputs.v}) leaf->requires_grad_();
  }
  std::vector<std::pair<std::string, std::function<void()>>> tasks;
  for (const std::string& name : names) {
    const auto found = std::find_if(contenders().begin(), contenders().end(),
                                    [&](const auto& contender) { return contender.first == name; });
    if (found == contenders().end()) {
      throw InputError(fmt::format("attention operators: expected one of {}, got '{}'",
                                   fmt::join(operator_names(), ", "), name));
    }
    const Attend attend = found->second;
    if (pass == Pass::kForward) {
      tasks.emplace_back(name, [&inputs, &shape, attend] {
        const c10::InferenceMode no_gradients;
        attend(inputs, shape);
      });
    } else {
      tasks.emplace_back(name, [&inputs, &shape, attend] {
        attend(inputs, shape).backward(inputs.grad);
        for (torch::Tensor* leaf : {&inputs.q, &inputs.k, &inputs.v}) leaf->mutable_grad().reset();
      });
    }
  }
  return measure(tasks, seconds);
}

std::vector<Measurement> measure_hash_learning(const OperatorShape& shape, double seconds) {
  Inputs inputs = make_inputs(shape);
  const torch::Tensor support = inputs.frozen->anchor.clone();
  const torch::Tensor start = inputs.frozen->A.clone();
  const auto from_start = [&](const auto& learn) {
    const torch::NoGradGuard no_grad;
    inputs.frozen->A.copy_(start);
    learn();
  };
  return measure(
      {{"official",
        [&] { from_start([&] { nn::learn_official(*inputs.frozen, inputs.q, support); }); }},
       {"ours",
        [&] {
          from_start([&] { nn::HashLearner({}).learn(*inputs.frozen, inputs.q, inputs.q); });
        }}},
      seconds);
}

double crossover(const std::vector<std::int64_t>& tokens, const std::vector<double>& ratio) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (ratio[i] < 1) continue;
    if (i == 0) return static_cast<double>(tokens[0]);
    const double share = -std::log(ratio[i - 1]) / (std::log(ratio[i]) - std::log(ratio[i - 1]));
    return std::exp(std::lerp(std::log(static_cast<double>(tokens[i - 1])),
                              std::log(static_cast<double>(tokens[i])), share));
  }
  return 0;
}

}  // namespace ecoformer::bench
