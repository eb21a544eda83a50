// One flag for every command that hashes without training.

#include "hash_precision.h"

#include <map>
#include <memory>

#include "ecoformer/nn/attention.h"

namespace ecoformer::cli {

std::string to_string(kernels::Precision precision) {
  return precision == kernels::Precision::kBfloat16 ? "bfloat16" : "float32";
}

void add_hash_precision_option(CLI::App& command, kernels::Precision& precision) {
  static const std::map<std::string, kernels::Precision> kPrecisions{
      {"float32", kernels::Precision::kFloat32}, {"bfloat16", kernels::Precision::kBfloat16}};
  command
      .add_option_function<std::string>(
          "--hash-precision",
          [&precision](const std::string& name) { precision = kPrecisions.at(name); },
          "Factors of the hash: bfloat16 is faster on a processor with AMX, and changes a few bits")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->default_str("float32");
}

void set_hash_precision(models::Classifier& model, kernels::Precision precision) {
  for (const std::shared_ptr<nn::Attention>& attention : model.attentions()) {
    if (auto* eco = dynamic_cast<nn::EcoAttention*>(attention.get())) {
      eco->ksh->set_precision(precision);
    }
  }
}

}  // namespace ecoformer::cli
