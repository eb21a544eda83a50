// Names, lists and chooses the instruction sets that the kernels were compiled for.

#include "ecoformer/kernels/targets.h"

#include <cctype>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/targets.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ecoformer::kernels {
namespace HWY_NAMESPACE {
namespace {
std::int64_t target_that_runs() {
  return HWY_TARGET;
}
}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ecoformer::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace ecoformer::kernels {
namespace {

HWY_EXPORT(target_that_runs);

std::string name_of(std::int64_t target) {
  std::string name = hwy::TargetName(target);
  for (char& letter : name) letter = static_cast<char>(std::tolower(letter));
  return name;
}

/// Asked once only: hwy::SupportedTargets also chooses the best target again.
const std::vector<std::int64_t>& supported() {
  static const std::vector<std::int64_t> targets = hwy::SupportedAndGeneratedTargets();
  return targets;
}

}  // namespace

std::vector<std::string> available_targets() {
  std::vector<std::string> names;
  for (const std::int64_t target : supported()) names.push_back(name_of(target));
  return names;
}

std::string active_target() {
  return name_of(HWY_DYNAMIC_DISPATCH(target_that_runs)());
}

bool force_target(const std::string& name) {
  for (const std::int64_t target : supported()) {
    if (name != "auto" && name != name_of(target)) continue;
    hwy::GetChosenTarget().Update(target);
    return true;
  }
  return false;
}

}  // namespace ecoformer::kernels

#endif  // HWY_ONCE
