// Choosing an instruction set.

#include "ecoformer/kernels/targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ecoformer::kernels {
namespace {

TEST(Targets, ForcedOneIsTheOneThatRuns) {
  const std::vector<std::string> names = available_targets();
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    EXPECT_TRUE(force_target(name));
    EXPECT_EQ(active_target(), name);
    EXPECT_EQ(available_targets(), names) << "forcing one must not hide the others";
    EXPECT_EQ(active_target(), name) << "listing must not choose";
  }
  EXPECT_TRUE(force_target("auto"));
  EXPECT_EQ(active_target(), names.front());
}

TEST(Targets, UnknownNameChangesNothing) {
  const std::string name = available_targets().back();
  ASSERT_TRUE(force_target(name));
  for (const char* unknown : {"", "pentium", "AVX2 ", "unknown"}) {
    EXPECT_FALSE(force_target(unknown)) << unknown;
    EXPECT_EQ(active_target(), name);
  }
  ASSERT_TRUE(force_target("auto"));
}

}  // namespace
}  // namespace ecoformer::kernels
