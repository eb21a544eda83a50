// States of vision models: what files hold beside them, and dense weights as those of another kind
// of attention.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace torch::nn {
class Module;
}

namespace ecoformer::models {

/// True for tensors that files have beside a model's own: the authors' `projection_matrix` buffers,
/// which their code stores and never reads, and the `fixture.*` examples.
bool is_unused_state(const std::string& name);

/// `state` as the parameters of `target`, another kind of attention of the same model, made as by
/// the EcoFormer authors (pvt/main.py): `qkv` from `q` and `kv`; `to_qk` the query rows of `qkv`,
/// `to_v` its value rows, the key rows dropped; `sr` and its norm dropped. All else goes over by
/// its name. Hash functions and beta, where `state` has none, are the target's own: they are still
/// to be learned. Throws InputError naming the first parameter that `state` has nothing for.
std::map<std::string, at::Tensor> state_for(const torch::nn::Module& target,
                                            const std::map<std::string, at::Tensor>& state);

}  // namespace ecoformer::models
