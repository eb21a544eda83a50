// PVTv2: timm counts stages from 0 and nests them; the authors count from 1 and do not.
#include "ecoformer/io/key_map.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "ecoformer/base/error.h"
#include "io/quote.h"

namespace ecoformer::io {
namespace {

/// The stages of PVTv2 have one digit; what does not is no name of its.
constexpr int kMostStages = 8;

/// Takes `text` off the front of `name`, if it is there.
bool skip(std::string_view& name, std::string_view text) {
  if (name.substr(0, text.size()) != text) return false;
  name.remove_prefix(text.size());
  return true;
}

/// Takes a stage's number and a dot off the front of `name`, if they are there.
std::optional<int> skip_stage(std::string_view& name) {
  if (name.size() < 2 || name[1] != '.' || name[0] < '0' || name[0] > '0' + kMostStages) {
    return std::nullopt;
  }
  const int stage = name[0] - '0';
  name.remove_prefix(2);
  return stage;
}

/// `name` with `from` replaced by `to` where it stands last.
std::string replace_last(std::string_view name, std::string_view from, std::string_view to) {
  std::string result(name);
  const std::size_t place = result.rfind(from);
  return place == std::string::npos ? result : result.replace(place, from.size(), to);
}

}  // namespace

std::string_view without_module_prefix(std::string_view name) {
  skip(name, "module.");
  return name;
}

std::string official_pvt_name(std::string_view name) {
  std::string_view rest = name;
  if (skip(rest, "patch_embed.")) return fmt::format("patch_embed1.{}", rest);
  if (skip(rest, "stages.")) {
    if (const std::optional<int> stage = skip_stage(rest)) {
      if (skip(rest, "downsample.")) return fmt::format("patch_embed{}.{}", *stage + 1, rest);
      if (skip(rest, "norm.")) return fmt::format("norm{}.{}", *stage + 1, rest);
      if (skip(rest, "blocks.")) {
        return fmt::format("block{}.{}", *stage + 1,
                           replace_last(rest, ".mlp.dwconv.", ".mlp.dwconv.dwconv."));
      }
    }
  }
  return std::string(name);
}

std::string timm_pvt_name(std::string_view name) {
  std::string_view rest = name;
  if (skip(rest, "patch_embed1.")) return fmt::format("patch_embed.{}", rest);
  const auto renamed = [&](std::string_view prefix, std::string_view part) -> std::string {
    rest = name;
    if (!skip(rest, prefix)) return {};
    const std::optional<int> stage = skip_stage(rest);
    if (!stage || *stage == 0) return {};
    return fmt::format("stages.{}.{}.{}", *stage - 1, part, rest);
  };
  for (const auto& [prefix, part] : {std::pair("patch_embed", "downsample"),
                                     std::pair("norm", "norm"), std::pair("block", "blocks")}) {
    const std::string result = renamed(prefix, part);
    if (!result.empty()) return replace_last(result, ".mlp.dwconv.dwconv.", ".mlp.dwconv.");
  }
  return std::string(name);
}

void fail_renaming(const std::string& name) {
  throw InputError(
      fmt::format("rename tensors: expected each name once, got {} twice", quote(name)));
}

}  // namespace ecoformer::io
