// `attend`: runs EcoFormer attention on stored tensors, named as in the attention fixtures.

#include <fmt/format.h>
#include <torch/torch.h>

#include <memory>
#include <string>

#include "command.h"
#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors.h"
#include "ecoformer/nn/attention.h"
#include "hash_precision.h"
#include "progress.h"

namespace ecoformer::cli {
namespace {

struct Options {
  std::string input;
  std::string output;
  std::string semantics = "exponential";
  std::string bandwidth = "frozen";
  double beta = 0.5;
  std::int64_t group_bits = 8;
  kernels::Precision hash_precision = kernels::Precision::kFloat32;
};

/// How far a support may be from unit length; the kernels rely on |s| = 1.
constexpr double kUnitTolerance = 1e-3;

/// Everything read from the input, checked.
struct Inputs {
  torch::Tensor q, k, v;  ///< q and k are the same tensor if the file holds `qk`
  torch::Tensor mask;     ///< bool [B, N], or undefined
  nn::HashFunction hash = nullptr;
};

torch::Tensor take_finite(const io::TensorFile& file, const std::string& name,
                          const std::vector<std::int64_t>& shape) {
  torch::Tensor tensor = io::take(file, name, std::nullopt, shape);
  if (!tensor.is_floating_point()) {
    throw InputError(fmt::format("{}: expected tensor '{}' of a floating-point type, got {}",
                                 file.source, name, c10::toString(tensor.scalar_type())));
  }
  check_finite(file, name, tensor);
  return tensor;
}

torch::Tensor take_mask(const io::TensorFile& file, std::int64_t batch, std::int64_t tokens) {
  if (file.tensors.find("mask") == file.tensors.end()) return {};
  torch::Tensor mask = io::take(file, "mask", torch::kBool, {{batch, tokens}});
  const torch::Tensor empty = mask.any(1).logical_not();
  if (empty.any().item<bool>()) {
    throw InputError(
        fmt::format("{}: expected a real token in every sample of 'mask', got none in sample {}",
                    file.source, empty.nonzero()[0].item<std::int64_t>()));
  }
  return mask;
}

nn::HashFunction take_hash(const io::TensorFile& file, std::int64_t heads, std::int64_t dim,
                           nn::Bandwidth bandwidth) {
  const torch::Tensor support = take_finite(file, "supports", {1, heads, -1, dim});
  const std::int64_t supports = support.size(2);
  const torch::Tensor mean = take_finite(file, "kernel_mean", {1, heads, 1, supports});
  const torch::Tensor weight = take_finite(file, "weight", {heads, -1, supports});
  if (supports < 1 || weight.size(1) < 1 || weight.size(1) > 64) {
    throw InputError(fmt::format(
        "{}: expected at least 1 support and 1 to 64 bits in 'weight' [H, b, m], got {}",
        file.source, shape_text(weight.sizes())));
  }
  const double off = (support.to(torch::kDouble).norm(2, -1) - 1).abs().max().item<double>();
  if (off > kUnitTolerance) {
    throw InputError(
        fmt::format("{}: expected unit vectors in 'supports', got a length that is {:.3g} off",
                    file.source, off));
  }
  nn::HashFunction hash(nn::HashOptions{.heads = heads,
                                        .dim = dim,
                                        .bits = weight.size(1),
                                        .supports = supports,
                                        .bandwidth = bandwidth});
  hash->anchor.copy_(support);
  hash->mvec.copy_(mean);
  hash->A.copy_(weight);
  if (bandwidth == nn::Bandwidth::kFrozen) {
    const torch::Tensor sigma = take_finite(file, "bandwidth", {heads});
    if (!sigma.gt(0).all().item<bool>()) {
      throw InputError(fmt::format("{}: expected values above 0 in 'bandwidth', got {}",
                                   file.source, sigma.min().item<double>()));
    }
    hash->sigma.copy_(sigma);
  }
  return hash;
}

Inputs read_inputs(const Options& options) {
  const io::TensorFile file = io::read_safetensors(options.input);
  const bool tied = file.tensors.find("qk") != file.tensors.end();
  Inputs inputs;
  inputs.q = take_finite(file, tied ? "qk" : "q", {-1, -1, -1, -1});
  const std::int64_t batch = inputs.q.size(0);
  const std::int64_t heads = inputs.q.size(1);
  const std::int64_t tokens = inputs.q.size(2);
  const std::int64_t dim = inputs.q.size(3);
  if (heads < 1 || dim < 1) {
    throw InputError(fmt::format("{}: expected at least one head and channel, got {}", file.source,
                                 shape_text(inputs.q.sizes())));
  }
  inputs.k = tied ? inputs.q : take_finite(file, "k", {batch, heads, tokens, dim});
  inputs.v = take_finite(file, "v", {batch, heads, tokens, -1});
  inputs.mask = take_mask(file, batch, tokens);
  inputs.hash = take_hash(file, heads, dim, nn::bandwidth_from_string(options.bandwidth));
  return inputs;
}

void run(const Options& options) {
  const torch::InferenceMode no_gradients;
  check_writable_file("--output", options.output);
  Inputs inputs = read_inputs(options);
  const bool tied = inputs.q.is_same(inputs.k);
  const std::int64_t bits = inputs.hash->options().bits;
  inputs.hash->set_precision(options.hash_precision);
  if (options.hash_precision == kernels::Precision::kBfloat16) {
    const torch::Tensor both = tied ? inputs.q : torch::cat({inputs.q, inputs.k}, 2);
    const torch::Tensor real =
        tied || !inputs.mask.defined() ? inputs.mask : torch::cat({inputs.mask, inputs.mask}, 1);
    log_line(fmt::format("bfloat16 changes {:.2f} % of the bits of the codes",
                         100 * inputs.hash->share_changed_by_bfloat16(both, real)));
  }

  const torch::Tensor query_codes = inputs.hash->encode(inputs.q, inputs.mask);
  const torch::Tensor key_codes = tied ? query_codes : inputs.hash->encode(inputs.k, inputs.mask);
  const torch::Tensor beta = torch::full({inputs.q.size(1)}, options.beta);
  const nn::Masks masks{.keys = inputs.mask, .queries = inputs.mask};
  io::TensorFile result{.tensors = {}, .metadata = {}};
  result.tensors["output"] = nn::attend_codes(query_codes, key_codes, inputs.v, bits,
                                              nn::semantics_from_string(options.semantics),
                                              options.group_bits, beta, masks);
  result.tensors["codes"] = nn::unpack_codes(query_codes, bits);
  if (!tied) result.tensors["key_codes"] = nn::unpack_codes(key_codes, bits);
  io::write_safetensors(options.output, result);
}

}  // namespace

void add_attend(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "attend",
      "Attend over stored tensors: qk (or q and k) and v [B,H,N,D], supports [1,H,m,D], "
      "kernel_mean "
      "[1,H,1,m], weight [H,b,m], for a frozen bandwidth bandwidth [H], mask [B,N] if there is "
      "one; "
      "writes codes (and key_codes for q and k) [B,H,N,b] as +1 and -1, and output");
  command->add_option("--input", options->input, "safetensors file to read")->required();
  command->add_option("--output", options->output, "safetensors file to write")->required();
  command->add_option("--semantics", options->semantics, "Weight of a pair by its Hamming distance")
      ->check(CLI::IsMember({"paper", "official", "exponential"}));
  command
      ->add_option("--bandwidth", options->bandwidth,
                   "Stored in the input, or of each sample and head")
      ->check(CLI::IsMember({"frozen", "per_input"}));
  command->add_option("--beta", options->beta, "Sharpness of exponential")
      ->check(CLI::Range(0.0, nn::kMaxBeta));
  command
      ->add_option("--group-bits", options->group_bits,
                   "Bits of a table's index; changes exponential only")
      ->check(CLI::IsMember({4, 8}));
  add_hash_precision_option(*command, options->hash_precision);
  command->callback([options] { run(*options); });
}

}  // namespace ecoformer::cli
