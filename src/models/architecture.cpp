// The published vision models: widths, depths and heads as in their authors' code.

#include "ecoformer/models/architecture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <utility>

#include "ecoformer/base/error.h"
#include "ecoformer/models/pvt_v2.h"
#include "ecoformer/models/twins.h"
#include "models/config_fields.h"

namespace ecoformer::models {
namespace {

using List = std::vector<std::int64_t>;

Architecture pvt_v2(List widths, List depths, List mlp_ratios = {8, 8, 4, 4}, bool linear = false) {
  PvtV2Config config;
  config.widths = std::move(widths);
  config.depths = std::move(depths);
  config.mlp_ratios = std::move(mlp_ratios);
  config.linear = linear;
  return {"pvt_v2", to_json(config)};
}

Architecture svt(List widths, List depths, List heads) {
  TwinsConfig config;
  config.widths = std::move(widths);
  config.depths = std::move(depths);
  config.heads = std::move(heads);
  return {"twins", to_json(config)};
}

Architecture pcpvt(List depths) {
  TwinsConfig config;
  config.widths = {64, 128, 320, 512};
  config.depths = std::move(depths);
  config.heads = {1, 2, 5, 8};
  config.mlp_ratios = {8, 8, 4, 4};
  config.windows.clear();
  return {"twins", to_json(config)};
}

struct Named {
  std::string name;
  Architecture architecture;
};

const std::vector<Named>& all() {
  const List wide{64, 128, 320, 512};
  static const std::vector<Named> kAll{
      {"pvt_v2_b0", pvt_v2({32, 64, 160, 256}, {2, 2, 2, 2})},
      {"pvt_v2_b1", pvt_v2(wide, {2, 2, 2, 2})},
      {"pvt_v2_b2", pvt_v2(wide, {3, 4, 6, 3})},
      {"pvt_v2_b2_li", pvt_v2(wide, {3, 4, 6, 3}, {8, 8, 4, 4}, /*linear=*/true)},
      {"pvt_v2_b3", pvt_v2(wide, {3, 4, 18, 3})},
      {"pvt_v2_b4", pvt_v2(wide, {3, 8, 27, 3})},
      {"pvt_v2_b5", pvt_v2(wide, {3, 6, 40, 3}, {4, 4, 4, 4})},
      {"twins_svt_small", svt({64, 128, 256, 512}, {2, 2, 10, 4}, {2, 4, 8, 16})},
      {"twins_svt_base", svt({96, 192, 384, 768}, {2, 2, 18, 2}, {3, 6, 12, 24})},
      {"twins_svt_large", svt({128, 256, 512, 1024}, {2, 2, 18, 2}, {4, 8, 16, 32})},
      {"twins_pcpvt_small", pcpvt({3, 4, 6, 3})},
      {"twins_pcpvt_base", pcpvt({3, 4, 18, 3})},
      {"twins_pcpvt_large", pcpvt({3, 8, 27, 3})}};
  return kAll;
}

}  // namespace

void set_attention(Architecture& architecture, const nn::AttentionOptions& attention,
                   nn::Projection projection) {
  struct Replaceable {
    nn::Projection projection;
    nn::AttentionOptions attention;
  };
  const Replaceable replaceable{.projection = projection, .attention = attention};
  architecture.config.update(write_config(
      replaceable, [](const auto& config, const auto& visit) { visit_attention(config, visit); }));
}

Architecture named_architecture(const std::string& name) {
  for (const Named& named : all()) {
    if (named.name == name) return named.architecture;
  }
  throw InputError(fmt::format("model: expected one of {}, got '{}'",
                               fmt::join(architecture_names(), ", "), name));
}

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Named& named : all()) names.push_back(named.name);
  return names;
}

}  // namespace ecoformer::models
