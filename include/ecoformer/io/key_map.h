// The names under which different projects store the same tensors.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace ecoformer::io {

/// `name` without the prefix `module.` that DataParallel puts before it.
std::string_view without_module_prefix(std::string_view name);

/// The authors' name of a tensor that timm's PVTv2 calls `name`:
///   patch_embed.* -> patch_embed1.*        stages.{i}.downsample.* -> patch_embed{i+1}.*
///   stages.{i}.norm.* -> norm{i+1}.*       stages.{i}.blocks.* -> block{i+1}.*
///   mlp.dwconv.* -> mlp.dwconv.dwconv.* in blocks
/// Any other name is returned as it is.
std::string official_pvt_name(std::string_view name);

/// The inverse of `official_pvt_name`.
std::string timm_pvt_name(std::string_view name);

/// Whether `state` has timm's names of PVTv2: the authors' have no `patch_embed.proj.weight`.
template <typename T>
bool has_timm_pvt_names(const std::map<std::string, T>& state) {
  return state.find("patch_embed.proj.weight") != state.end();
}

/// Throws the InputError of `rename_keys`.
[[noreturn]] void fail_renaming(const std::string& name);

/// `state` with each name replaced by `rename(name)`. Throws InputError if two names become one.
template <typename T, typename Rename>
std::map<std::string, T> rename_keys(const std::map<std::string, T>& state, const Rename& rename) {
  std::map<std::string, T> renamed;
  for (const auto& [name, value] : state) {
    const auto [place, is_new] = renamed.emplace(rename(name), value);
    if (!is_new) fail_renaming(place->first);
  }
  return renamed;
}

}  // namespace ecoformer::io
