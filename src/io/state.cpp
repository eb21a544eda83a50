// Compares a whole state before copying any of it, so that a failed load leaves the module as it
// was.
#include "ecoformer/io/state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/nn/module.h>
#include <torch/utils.h>

#include <algorithm>
#include <string_view>

#include "ecoformer/base/error.h"
#include "io/quote.h"

namespace ecoformer::io {
namespace {

std::string describe(const at::Tensor& tensor) {
  return fmt::format("[{}] {}", fmt::join(tensor.sizes(), ", "),
                     at::toString(tensor.scalar_type()));
}

bool is_compatible(const at::Tensor& own, const at::Tensor& given) {
  return own.sizes() == given.sizes() && (own.scalar_type() == given.scalar_type() ||
                                          (own.is_floating_point() && given.is_floating_point()));
}

/// One line of the message, or nothing for an empty list.
std::string line(std::string_view title, const std::vector<std::string>& items) {
  constexpr std::size_t kMostListed = 8;
  if (items.empty()) return {};
  const auto end = items.begin() + static_cast<std::ptrdiff_t>(std::min(items.size(), kMostListed));
  std::string text = fmt::format("\n{}: {}", title, fmt::join(items.begin(), end, ", "));
  if (end != items.end()) text += fmt::format(", and {} more", items.end() - end);
  return text;
}

std::vector<std::string> quote_all(std::vector<std::string> names) {
  for (std::string& name : names) name = quote(name);
  return names;
}

}  // namespace

std::map<std::string, at::Tensor> state_of(const torch::nn::Module& module) {
  std::map<std::string, at::Tensor> state;
  for (const auto& item : module.named_parameters()) state[item.key()] = item.value().detach();
  for (const auto& item : module.named_buffers()) state[item.key()] = item.value().detach();
  return state;
}

StateReport compare_state(const torch::nn::Module& module,
                          const std::map<std::string, at::Tensor>& state) {
  const std::map<std::string, at::Tensor> own = state_of(module);
  StateReport report;
  for (const auto& [name, tensor] : own) {
    const auto given = state.find(name);
    if (given == state.end()) {
      report.missing.push_back(name);
    } else if (!is_compatible(tensor, given->second)) {
      report.mismatched.push_back(fmt::format("{} (expected {}, got {})", quote(name),
                                              describe(tensor), describe(given->second)));
    }
  }
  for (const auto& [name, tensor] : state) {
    if (own.find(name) == own.end()) report.unexpected.push_back(name);
  }
  return report;
}

void load_state(torch::nn::Module& module, const std::map<std::string, at::Tensor>& state,
                const std::string& file) {
  const StateReport report = compare_state(module, state);
  if (!report.fits()) {
    throw InputError(fmt::format(
        "load {}: expected the model's own tensors, got {} missing, {} unexpected, {} of another "
        "shape or dtype{}{}{}\nhint: the file belongs to another architecture or configuration",
        file, report.missing.size(), report.unexpected.size(), report.mismatched.size(),
        line("missing", quote_all(report.missing)),
        line("unexpected", quote_all(report.unexpected)), line("mismatched", report.mismatched)));
  }
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : state_of(module)) tensor.copy_(state.at(name));
}

}  // namespace ecoformer::io
