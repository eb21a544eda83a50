// Vision models from files of others: the authors', timm's, and whatever torch.save wrote of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ecoformer/io/safetensors.h"
#include "ecoformer/models/classifier.h"
#include "ecoformer/models/recognise.h"

namespace ecoformer::train {

/// The shapes of a file's state under the authors' names: prefixes `module.` and timm's names are
/// translated, tensors that no model reads (`models::is_unused_state`) are left out. Throws
/// InputError if two tensors get one name.
models::Shapes state_shapes(const std::map<std::string, std::vector<std::int64_t>>& shapes);

/// A model built for the weights of a file, which it holds.
struct Pretrained {
  std::shared_ptr<models::Classifier> model;
  std::string variant{};  ///< the published model's name, empty if it is none of them
};

/// Reads a safetensors or torch.save file, finds out which PVTv2 or Twins it belongs to (see
/// `models::recognise`), builds that model and loads all its weights. Entries of `architecture`,
/// written as the metadata that `models::recognise` reads, take the place of the file's own, for
/// files whose shapes do not tell all and that have none. Hash functions count as learned. Throws
/// InputError naming the file and what is missing, unexpected or does not fit.
Pretrained load_pretrained(const std::filesystem::path& path,
                           std::map<std::string, std::string> architecture = {});

/// A new model with the weights of `model` and `changes` in its configuration, which must not
/// change a shape. Throws InputError if they do, or are not valid.
std::shared_ptr<models::Classifier> with_config(const models::Classifier& model,
                                                const nlohmann::json& changes);

/// A new model with the weights of `model` but a classifier (`head`) for `classes` drawn from
/// `seed`.
std::shared_ptr<models::Classifier> with_new_head(const models::Classifier& model,
                                                  std::int64_t classes, std::uint64_t seed);

}  // namespace ecoformer::train
