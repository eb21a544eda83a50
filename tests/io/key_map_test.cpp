// Names of PVTv2 in both directions.
#include "ecoformer/io/key_map.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ecoformer/base/error.h"

namespace ecoformer::io {
namespace {

TEST(KeyMapTest, MapsEveryKindOfNameBothWays) {
  const std::vector<std::pair<std::string, std::string>> names = {
      {"patch_embed.proj.weight", "patch_embed1.proj.weight"},
      {"patch_embed.norm.bias", "patch_embed1.norm.bias"},
      {"stages.1.downsample.proj.weight", "patch_embed2.proj.weight"},
      {"stages.3.downsample.norm.weight", "patch_embed4.norm.weight"},
      {"stages.0.blocks.0.norm1.weight", "block1.0.norm1.weight"},
      {"stages.2.blocks.39.attn.kv.bias", "block3.39.attn.kv.bias"},
      {"stages.2.blocks.10.attn.norm.bias", "block3.10.attn.norm.bias"},
      {"stages.3.blocks.1.mlp.dwconv.weight", "block4.1.mlp.dwconv.dwconv.weight"},
      {"stages.0.blocks.2.mlp.fc1.bias", "block1.2.mlp.fc1.bias"},
      {"stages.0.norm.weight", "norm1.weight"},
      {"head.weight", "head.weight"}};
  for (const auto& [timm, official] : names) {
    EXPECT_EQ(official_pvt_name(timm), official);
    EXPECT_EQ(timm_pvt_name(official), timm);
  }
}

TEST(KeyMapTest, LeavesOtherNamesAlone) {
  for (const std::string_view name :
       {"", "stages", "stages.", "stages.x.norm.weight", "stages.0", "stages.0.other",
        "norm.weight", "norm0.weight", "block.0.attn", "blocks.0.0.norm1.weight",
        "patch_embeds.0.proj.weight"}) {
    EXPECT_EQ(official_pvt_name(name), name);
    EXPECT_EQ(timm_pvt_name(name), name);
  }
}

TEST(KeyMapTest, TellsTheNamesApartAndRenamesStates) {
  const std::map<std::string, int> timm = {{"patch_embed.proj.weight", 1}, {"head.bias", 2}};
  EXPECT_TRUE(has_timm_pvt_names(timm));
  const std::map<std::string, int> official = rename_keys(timm, official_pvt_name);
  EXPECT_EQ(official,
            (std::map<std::string, int>{{"patch_embed1.proj.weight", 1}, {"head.bias", 2}}));
  EXPECT_FALSE(has_timm_pvt_names(official));
  EXPECT_EQ(without_module_prefix("module.head.bias"), "head.bias");
  EXPECT_EQ(without_module_prefix("modules.head"), "modules.head");
}

TEST(KeyMapTest, RefusesTwoNamesThatBecomeOne) {
  try {
    rename_keys(std::map<std::string, int>{{"norm1.bias", 1}, {"stages.0.norm.bias", 2}},
                official_pvt_name);
    FAIL() << "expected an InputError";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "rename tensors: expected each name once, got 'norm1.bias' twice");
  }
}

}  // namespace
}  // namespace ecoformer::io
