// Projections cut and joined by rows.

#include "ecoformer/models/state_names.h"

#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/torch.h>

#include <optional>

#include "ecoformer/base/error.h"

namespace ecoformer::models {
namespace {

using State = std::map<std::string, at::Tensor>;

/// The tensor `layer`qkv`end`, fused if need be.
std::optional<at::Tensor> fused(const State& state, const std::string& layer,
                                const std::string& end) {
  if (const auto qkv = state.find(layer + "qkv" + end); qkv != state.end()) return qkv->second;
  const auto q = state.find(layer + "q" + end);
  const auto kv = state.find(layer + "kv" + end);
  if (q == state.end() || kv == state.end()) return std::nullopt;
  return torch::cat({q->second, kv->second}, 0);
}

/// The tensor of `state` that becomes `name`.
std::optional<at::Tensor> source(const State& state, const std::string& name) {
  if (const auto same = state.find(name); same != state.end()) return same->second;
  const std::size_t dot = name.rfind('.');  // before weight or bias
  if (dot == std::string::npos) return std::nullopt;
  const std::size_t begin = name.rfind('.', dot - 1) + 1;
  const std::string layer = name.substr(0, begin);
  const std::string projection = name.substr(begin, dot - begin);
  if (projection != "qkv" && projection != "to_qk" && projection != "to_v") return std::nullopt;
  const auto qkv = fused(state, layer, name.substr(dot));
  if (!qkv || projection == "qkv") return qkv;
  if (qkv->size(0) % 3 != 0) return std::nullopt;
  return qkv->chunk(3, /*dim=*/0)[projection == "to_qk" ? 0 : 2].clone();
}

}  // namespace

bool is_unused_state(const std::string& name) {
  return name.starts_with("fixture.") || name.ends_with(".projection_matrix");
}

State state_for(const torch::nn::Module& target, const State& state) {
  State result;
  for (const auto& item : target.named_buffers()) {
    const auto given = state.find(item.key());
    result[item.key()] = given == state.end() ? item.value().clone() : given->second;
  }
  for (const auto& item : target.named_parameters()) {
    auto found = source(state, item.key());
    if (!found && item.key().find(".fast_attention.") != std::string::npos) {
      found = item.value().detach().clone();
    }
    if (!found) {
      throw InputError(fmt::format(
          "convert: expected a tensor for '{}' in the dense state, got none", item.key()));
    }
    result[item.key()] = *found;
  }
  return result;
}

}  // namespace ecoformer::models
