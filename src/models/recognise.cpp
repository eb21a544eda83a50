// Configurations derived from shapes, and from the authors' settings in metadata.

#include "ecoformer/models/recognise.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "ecoformer/base/error.h"
#include "ecoformer/models/classifier.h"
#include "ecoformer/models/pvt_v2.h"
#include "ecoformer/models/twins.h"

namespace ecoformer::models {
namespace {

using nlohmann::json;
using List = std::vector<std::int64_t>;

/// Stages, and blocks of a stage, that are looked for: no published model has as many.
constexpr std::int64_t kMostStages = 8;
constexpr std::int64_t kMostBlocks = 256;

/// A state under the names of one family.
struct Family {
  const char* type;
  const char* embed;  ///< stage number -> patch embedding
  const char* block;  ///< stage number, block number -> block
  int first;          ///< number of the first stage

  std::string embed_name(std::int64_t s) const {
    return fmt::format(fmt::runtime(embed), s + first);
  }
  std::string block_name(std::int64_t s, std::int64_t i) const {
    return fmt::format(fmt::runtime(block), s + first, i);
  }
};
constexpr Family kPvtV2{"pvt_v2", "patch_embed{}.", "block{}.{}.", 1};
constexpr Family kTwins{"twins", "patch_embeds.{}.", "blocks.{}.{}.", 0};

[[noreturn]] void refuse(const std::string& expected, const std::string& got) {
  throw InputError(fmt::format("recognise: expected {}, got {}", expected, got));
}

/// Dimension `dim` of the tensor `name`, which must have `dims` of them.
std::int64_t size_of(const Shapes& shapes, const std::string& name, std::size_t dims,
                     std::size_t dim) {
  const auto found = shapes.find(name);
  if (found == shapes.end()) refuse(fmt::format("a tensor '{}'", name), "none");
  if (found->second.size() != dims) {
    refuse(fmt::format("'{}' with {} dims", name, dims),
           fmt::format("[{}]", fmt::join(found->second, ", ")));
  }
  return found->second[dim];
}

bool has(const Shapes& shapes, const std::string& name) {
  return shapes.count(name) != 0;
}

/// The fields that shapes tell of either family. Fields they do not tell keep what they are, or
/// stay 0 in the lists.
void read_shapes(const Shapes& shapes, const Family& family, PyramidConfig& config) {
  config.widths.clear();
  config.depths.clear();
  config.mlp_ratios.clear();
  config.heads.clear();
  config.sr_ratios.clear();
  config.channels = size_of(shapes, family.embed_name(0) + "proj.weight", 4, 1);
  config.classes = size_of(shapes, "head.weight", 2, 0);
  for (std::int64_t s = 0; s < kMostStages && has(shapes, family.embed_name(s) + "proj.weight");
       ++s) {
    const std::int64_t width = size_of(shapes, family.embed_name(s) + "proj.weight", 4, 0);
    std::int64_t depth = 0;
    std::int64_t heads = 0;
    std::int64_t reduction = 0;
    while (depth < kMostBlocks && has(shapes, family.block_name(s, depth) + "norm1.weight")) {
      const std::string attention = family.block_name(s, depth) + "attn.";
      const std::string hash = attention + "fast_attention.ksh.A";
      if (has(shapes, hash)) heads = size_of(shapes, hash, 3, 0);
      if (has(shapes, attention + "sr.weight")) {
        reduction = size_of(shapes, attention + "sr.weight", 4, 2);
      }
      ++depth;
    }
    const std::string fc1 = family.block_name(s, 0) + "mlp.fc1.weight";
    const std::int64_t hidden = size_of(shapes, fc1, 2, 0);
    if (width < 1 || hidden % width != 0) {
      refuse(fmt::format("'{}' with a multiple of {} rows", fc1, width), std::to_string(hidden));
    }
    config.widths.push_back(width);
    config.depths.push_back(depth);
    config.mlp_ratios.push_back(hidden / width);
    config.heads.push_back(heads);
    config.sr_ratios.push_back(reduction);
  }
}

/// The kind of attention, read from the first block.
void read_attention(const Shapes& shapes, const Family& family, PyramidConfig& config) {
  const std::string attention = family.block_name(0, 0) + "attn.";
  const std::string hash = attention + "fast_attention.ksh.";
  config.projection =
      has(shapes, attention + "to_qk.weight") ? nn::Projection::kTied : nn::Projection::kUntied;
  if (has(shapes, hash + "A")) {
    config.attention.mechanism = "eco";
    config.attention.bits = size_of(shapes, hash + "A", 3, 1);
    config.attention.supports = size_of(shapes, hash + "A", 3, 2);
    config.attention.bandwidth =
        has(shapes, hash + "sigma") ? nn::Bandwidth::kFrozen : nn::Bandwidth::kPerInput;
    config.attention.semantics = has(shapes, attention + "fast_attention.beta")
                                     ? nn::Semantics::kExponential
                                     : nn::Semantics::kOfficial;
    return;
  }
  // Twins has `qkv` in windows too; there the second block tells.
  const std::string second = family.block_name(0, 1) + "attn.";
  const bool original = has(shapes, attention + "q.weight") || has(shapes, second + "q.weight");
  config.attention.mechanism = original ? kOriginalAttention : "softmax";
}

/// The entries of `known` where `found` has none.
List completed(List found, const List& known) {
  for (std::size_t s = 0; s < found.size(); ++s) {
    if (found[s] == 0) found[s] = known[s];
  }
  return found;
}

bool agree(const List& found, const List& known) {
  return completed(found, known) == known;
}

/// The published model of the shapes in `config`, whose gaps it fills; empty if there is none.
template <typename Config, typename Read, typename Matches>
std::string complete_from_published(const char* type, Config& config, const Read& read,
                                    const Matches& matches) {
  for (const std::string& name : architecture_names()) {
    const Architecture architecture = named_architecture(name);
    if (architecture.type != type) continue;
    const Config known = read(architecture.config);
    if (known.widths != config.widths || known.depths != config.depths ||
        known.mlp_ratios != config.mlp_ratios || !agree(config.heads, known.heads) ||
        !matches(known)) {
      continue;
    }
    config.heads = known.heads;
    config.sr_ratios = known.sr_ratios;
    return name;
  }
  // The last stage and layers that are not sub-sampled have no reduction that mattered.
  std::replace(config.sr_ratios.begin(), config.sr_ratios.end(), std::int64_t{0}, std::int64_t{1});
  if (std::count(config.heads.begin(), config.heads.end(), 0) > 0) {
    throw InputError(fmt::format(
        "recognise: expected the widths, depths and mlp ratios of a published {} model, got [{}], "
        "[{}] and [{}]\n"
        "hint: shapes do not tell the heads; give the architecture as metadata or configuration",
        type, fmt::join(config.widths, ", "), fmt::join(config.depths, ", "),
        fmt::join(config.mlp_ratios, ", ")));
  }
  return {};
}

Recognised recognise_pvt_v2(const Shapes& shapes) {
  PvtV2Config config;
  read_shapes(shapes, kPvtV2, config);
  read_attention(shapes, kPvtV2, config);
  const bool original = config.attention.mechanism == kOriginalAttention;
  const std::int64_t last = std::ssize(config.widths) - 1;
  config.linear = original && config.sr_ratios.front() == 1;
  config.fused_last = original && has(shapes, kPvtV2.block_name(last, 0) + "attn.qkv.weight");
  std::string variant = complete_from_published(
      "pvt_v2", config, pvt_v2_config_from_json, [&](const PvtV2Config& known) {
        return known.linear == config.linear &&
               (config.linear || agree(config.sr_ratios, known.sr_ratios));
      });
  return {{"pvt_v2", to_json(config)}, std::move(variant)};
}

Recognised recognise_twins(const Shapes& shapes) {
  TwinsConfig config;
  read_shapes(shapes, kTwins, config);
  read_attention(shapes, kTwins, config);
  config.patch_size = size_of(shapes, kTwins.embed_name(0) + "proj.weight", 4, 2);
  const bool windows = config.attention.mechanism == kOriginalAttention &&
                       has(shapes, kTwins.block_name(0, 0) + "attn.qkv.weight");
  config.windows.assign(config.widths.size(), 7);
  std::string variant = complete_from_published(
      "twins", config, twins_config_from_json, [&](const TwinsConfig& known) {
        if (config.attention.mechanism == kOriginalAttention && windows == known.windows.empty()) {
          return false;
        }
        if (!agree(config.sr_ratios, known.sr_ratios)) return false;
        config.windows = known.windows;
        return true;
      });
  if (config.attention.mechanism == kOriginalAttention && !windows) config.windows.clear();
  return {{"twins", to_json(config)}, std::move(variant)};
}

/// The authors' settings as text, one read at a time.
class Metadata {
 public:
  explicit Metadata(const std::map<std::string, std::string>& values) : values_(values) {}

  const std::string& text(const char* key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) refuse(fmt::format("metadata '{}'", key), "none");
    return found->second;
  }
  /// A number or a list of numbers, written as in Python.
  json number(const char* key) const {
    json value = json::parse(text(key), nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded())
      refuse(fmt::format("metadata '{}' to be a number or list", key), quoted(key));
    return value;
  }
  /// Refuses any value but `only`.
  void expect(const char* key, std::string_view only) const {
    if (text(key) != only) refuse(fmt::format("metadata '{}' to be {}", key, only), quoted(key));
  }
  std::string quoted(const char* key) const {
    constexpr std::size_t kMostShown = 60;
    return fmt::format("'{}'", text(key).substr(0, kMostShown));
  }

 private:
  const std::map<std::string, std::string>& values_;
};

Recognised recognise_by(const Metadata& metadata, const Shapes& shapes) {
  const bool pvt = metadata.text("family") == "pvt_v2";
  if (!pvt && metadata.text("family") != "twins_svt") {
    refuse("metadata 'family' to be pvt_v2 or twins_svt", metadata.quoted("family"));
  }
  const Family& family = pvt ? kPvtV2 : kTwins;
  const std::string& attention = metadata.text("attention");
  json config{
      {"widths", metadata.number("embed_dims")},     {"heads", metadata.number("num_heads")},
      {"mlp_ratios", metadata.number("mlp_ratios")}, {"depths", metadata.number("depths")},
      {"sr_ratios", metadata.number("sr_ratios")},   {"classes", metadata.number("num_classes")}};
  metadata.expect("layer_norm_eps", "1e-06");
  const std::string first = family.block_name(0, 0) + "attn.";
  if (attention == "ecoformer") {
    config["attention"] = "eco";
    config["bits"] = metadata.number("bits");
    config["supports"] = metadata.number("supports");
    config["semantics"] = metadata.text("semantics");
    config["bandwidth"] = has(shapes, first + "fast_attention.ksh.sigma") ? "frozen" : "per_input";
  } else if (attention == "msa") {
    config["attention"] = "softmax";
  } else if (attention == (pvt ? "sra" : "svt")) {
    config["attention"] = kOriginalAttention;
  } else {
    refuse(fmt::format("metadata 'attention' to be {}, msa or ecoformer", pvt ? "sra" : "svt"),
           metadata.quoted("attention"));
  }
  config["projection"] = has(shapes, first + "to_qk.weight") ? "tied" : "untied";
  if (pvt) {
    const std::size_t stages = config["depths"].is_array() ? config["depths"].size() : 0;
    config["fused_last"] = attention == "sra" &&
                           has(shapes, family.block_name(static_cast<std::int64_t>(stages) - 1, 0) +
                                           "attn.qkv.weight");
    const PvtV2Config found = pvt_v2_config_from_json(config);
    return {{"pvt_v2", to_json(found)}};
  }
  metadata.expect("qkv_bias", "True");
  config["patch_size"] = metadata.number("patch_size");
  config["windows"] = metadata.number("wss");
  const TwinsConfig found = twins_config_from_json(config);
  return {{"twins", to_json(found)}};
}

Recognised find_architecture(const Shapes& shapes,
                             const std::map<std::string, std::string>& metadata) {
  if (metadata.count("family") != 0) return recognise_by(Metadata(metadata), shapes);
  if (has(shapes, kPvtV2.embed_name(0) + "proj.weight")) return recognise_pvt_v2(shapes);
  if (has(shapes, kTwins.embed_name(0) + "proj.weight")) return recognise_twins(shapes);
  refuse(
      "the tensors of a PVTv2 ('patch_embed1.proj.weight') or Twins ('patch_embeds.0.proj.weight')",
      fmt::format("{} tensors{}", shapes.size(),
                  shapes.empty()
                      ? ""
                      : fmt::format(", the first '{}'", shapes.begin()->first.substr(0, 60))));
}

}  // namespace

Recognised recognise(const Shapes& shapes, const std::map<std::string, std::string>& metadata) {
  Recognised found = find_architecture(shapes, metadata);
  double elements = 0;
  for (const auto& [name, shape] : shapes) {
    double product = 1;
    for (const std::int64_t size : shape) product *= static_cast<double>(size);
    elements += product;
  }
  require_state_for(found.architecture.type, found.architecture.config, elements);
  return found;
}

}  // namespace ecoformer::models
