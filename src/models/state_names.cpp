// Names by fixed replacements, and projections cut and joined by rows.

#include "ecoformer/models/state_names.h"

#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/torch.h>

#include <optional>
#include <string_view>
#include <utility>

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

std::string official_name(const std::string& name) {
  constexpr std::string_view kStem = "patch_embed.";
  constexpr std::string_view kStages = "stages.";
  constexpr std::string_view kDepthwise = ".mlp.dwconv.";
  const std::string_view view = name;
  if (view.starts_with(kStem)) return fmt::format("patch_embed1.{}", view.substr(kStem.size()));
  // stages.<one digit>.<part>.<rest>
  const std::size_t number = kStages.size();
  if (!view.starts_with(kStages) || view.size() < number + 2 || view[number] < '0' ||
      view[number] > '8' || view[number + 1] != '.') {
    return name;
  }
  const auto stage = static_cast<char>(view[number] + 1);
  const std::string_view part = view.substr(number + 2);
  for (const auto& [theirs, ours] :
       {std::pair<std::string_view, const char*>{"downsample.", "patch_embed"},
        {"norm.", "norm"},
        {"blocks.", "block"}}) {
    if (!part.starts_with(theirs)) continue;
    std::string renamed = fmt::format("{}{}.{}", ours, stage, part.substr(theirs.size()));
    const std::size_t conv = renamed.find(kDepthwise);
    if (conv != std::string::npos) renamed.insert(conv + kDepthwise.size(), "dwconv.");
    return renamed;
  }
  return name;
}

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
