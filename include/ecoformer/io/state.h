// A module's state as tensors by name, and loading it back all or nothing.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace ecoformer::io {

/// How a state differs from what a module needs; all empty if it fits.
struct StateReport {
  std::vector<std::string> missing;     ///< names the module has and the state lacks
  std::vector<std::string> unexpected;  ///< names the state has and the module lacks
  std::vector<std::string> mismatched;  ///< "name (expected [2, 3] Float, got [3, 2] Float)"

  bool fits() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
};

/// The module's parameters and buffers by dotted name, detached; they share the module's memory.
std::map<std::string, at::Tensor> state_of(const torch::nn::Module& module);

/// Compares names, shapes and dtypes; floating-point dtypes pass for each other.
StateReport compare_state(const torch::nn::Module& module,
                          const std::map<std::string, at::Tensor>& state);

/// Copies `state` into the module's own tensors. If it does not fit, changes nothing and throws one
/// InputError that names `file` and lists what is missing, unexpected and mismatched.
void load_state(torch::nn::Module& module, const std::map<std::string, at::Tensor>& state,
                const std::string& file);

}  // namespace ecoformer::io
