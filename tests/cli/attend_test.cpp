// `attend` on the authors' own tensors.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>

#include "cli/program.h"
#include "ecoformer/io/safetensors.h"
#include "ecoformer/kernels/encode.h"

namespace ecoformer::cli_test {
namespace {

/// The projections y [B, H, N, b] of a fixture's tokens in double, from the formula.
torch::Tensor projections(const io::TensorFile& file) {
  const auto get = [&](const char* name) { return file.tensors.at(name).to(torch::kDouble); };
  const torch::Tensor qk = get("qk");
  const torch::Tensor x = qk / qk.norm(2, -1, /*keepdim=*/true);
  const torch::Tensor distance = 2 - 2 * x.matmul(get("supports").transpose(-1, -2));
  const torch::Tensor sigma = distance.mean({-1, -2}, /*keepdim=*/true);
  const torch::Tensor kernel = (-distance / (2 * sigma)).exp() - get("kernel_mean");
  return kernel.matmul(get("weight").transpose(-1, -2).unsqueeze(0));
}

class AttendFixture : public ::testing::TestWithParam<std::string> {};

TEST_P(AttendFixture, EqualsTheAuthorsCode) {
  const Folder folder;
  const std::string path = std::string(ECO_FIXTURES) + "/" + GetParam() + ".safetensors";
  const std::string output = folder / "y.safetensors";
  const Outcome outcome = run({"attend", "--input", path, "--output", output, "--semantics",
                               "official", "--bandwidth", "per_input"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const io::TensorFile expected = io::read_safetensors(path);
  const io::TensorFile found = io::read_safetensors(output);
  const torch::Tensor codes = found.tensors.at("codes");
  ASSERT_EQ(codes.scalar_type(), torch::kChar);
  ASSERT_EQ(codes.sizes(), expected.tensors.at("codes").sizes());

  // A bit may differ only where its projection is within float rounding of 0.
  const torch::Tensor differ = codes.ne(expected.tensors.at("codes"));
  const torch::Tensor far = projections(expected).abs().ge(1e-5);
  EXPECT_EQ(differ.logical_and(far).sum().item<std::int64_t>(), 0);

  // Where all codes of a head agree, so does its output.
  const torch::Tensor agree = differ.flatten(2).any(-1).logical_not().unsqueeze(-1).unsqueeze(-1);
  const torch::Tensor error =
      (found.tensors.at("output") - expected.tensors.at("output")).abs() * agree;
  EXPECT_GT(agree.sum().item<std::int64_t>(), 0);
  EXPECT_LE(error.max().item<double>(), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Authors, AttendFixture,
                         ::testing::Values("attention_b1_h5_n196_d32", "attention_b2_h1_n64_d32",
                                           "attention_b2_h4_n50_d64", "attention_b3_h2_n197_d16"));

TEST(Attend, HashPrecisionReportsWhatItChanges) {
  const Folder folder;
  const std::string path = std::string(ECO_FIXTURES) + "/attention_b1_h5_n196_d32.safetensors";
  const auto attend = [&](const std::string& precision) {
    return run({"attend", "--input", path, "--output", folder / (precision + ".safetensors"),
                "--semantics", "official", "--bandwidth", "per_input", "--hash-precision",
                precision});
  };
  const Outcome exact = attend("float32");
  ASSERT_EQ(exact.code, 0) << exact.err;
  EXPECT_EQ(exact.err.find("bfloat16"), std::string::npos) << exact.err;
  const Outcome rounded = attend("bfloat16");
  if (!kernels::has_bfloat16_encode()) {
    EXPECT_EQ(rounded.code, 2);
    EXPECT_NE(rounded.err.find("AMX"), std::string::npos) << rounded.err;
    EXPECT_FALSE(std::filesystem::exists(folder / "bfloat16.safetensors"));
    return;
  }
  ASSERT_EQ(rounded.code, 0) << rounded.err;
  EXPECT_NE(rounded.err.find("bfloat16 changes 0."), std::string::npos) << rounded.err;
  const auto codes = [&](const char* name) {
    return io::read_safetensors(folder / name).tensors.at("codes");
  };
  const torch::Tensor differ = codes("float32.safetensors").ne(codes("bfloat16.safetensors"));
  EXPECT_GT(differ.sum().item<std::int64_t>(), 0);
  EXPECT_LT(differ.to(torch::kDouble).mean().item<double>(), 0.01);
}

TEST(Attend, SeparateQueriesAndKeysGiveBothCodes) {
  const Folder folder;
  io::TensorFile file =
      io::read_safetensors(std::string(ECO_FIXTURES) + "/attention_b2_h1_n64_d32.safetensors");
  const std::vector<std::string> flags{"--semantics", "exponential", "--bandwidth", "frozen"};
  file.tensors["bandwidth"] = torch::full({1}, 0.9F);
  io::write_safetensors(folder / "tied.safetensors", file);
  const torch::Tensor qk = file.tensors.at("qk");
  file.tensors.erase("qk");
  file.tensors["q"] = qk;
  file.tensors["k"] = qk.flip(2).contiguous();
  file.tensors["v"] = file.tensors.at("v").flip(2).contiguous();
  io::write_safetensors(folder / "untied.safetensors", file);
  for (const std::string& name : {std::string("tied"), std::string("untied")}) {
    const Outcome outcome =
        run(std::vector<std::string>{"attend", "--input", folder / (name + ".safetensors"),
                                     "--output", folder / (name + "_out.safetensors")} +
            flags);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  const io::TensorFile tied = io::read_safetensors(folder / "tied_out.safetensors");
  const io::TensorFile untied = io::read_safetensors(folder / "untied_out.safetensors");
  // Attention does not see the order of keys; float sums in another order differ by rounding alone:
  // 64 positive weights, values of order 1.
  EXPECT_TRUE(torch::equal(tied.tensors.at("codes"), untied.tensors.at("codes")));
  EXPECT_TRUE(torch::equal(tied.tensors.at("codes").flip(2), untied.tensors.at("key_codes")));
  EXPECT_EQ(tied.tensors.count("key_codes"), 0U);
  EXPECT_TRUE(torch::allclose(tied.tensors.at("output"), untied.tensors.at("output"), 0, 1e-5));
}

}  // namespace
}  // namespace ecoformer::cli_test
