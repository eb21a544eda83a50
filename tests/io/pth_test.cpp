// Reading files that torch.save wrote. What hostile files are refused for is in
// pth_replay_test.cpp.
#include "ecoformer/io/pth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <span>
#include <string>

#include "ecoformer/base/error.h"
#include "ecoformer/io/pickle.h"
#include "ecoformer/io/pth_index.h"
#include "ecoformer/io/tensor_file.h"

namespace ecoformer::io {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && torch::equal(a, b);
}

TEST(PthTest, HoldsTheTensorsOfItsSafetensorsTwin) {
  const TensorFile pth = read_tensor_file(ECO_FIXTURES "/model_pvt_v2_tiny_ecoformer.pth");
  const TensorFile twin = read_tensor_file(ECO_FIXTURES "/model_pvt_v2_tiny_ecoformer.safetensors");
  std::size_t compared = 0;
  for (const auto& [name, tensor] : twin.tensors) {
    if (name.rfind("fixture.", 0) == 0) continue;
    const auto found = pth.tensors.find(name);
    ASSERT_NE(found, pth.tensors.end()) << name;
    EXPECT_TRUE(same(found->second, tensor)) << name;
    ++compared;
  }
  EXPECT_GT(compared, 0U);
  // The twin leaves out buffers that nothing uses.
  for (const auto& [name, tensor] : pth.tensors) {
    const bool is_unused = name.find("projection_matrix") != std::string::npos;
    EXPECT_EQ(twin.tensors.count(name), is_unused ? 0U : 1U) << name;
  }
  using Metadata = std::map<std::string, std::string>;
  EXPECT_EQ(pth.metadata,
            (Metadata{{"pth.layout", "zip"},
                      {"pth.state", "model"},
                      {"pth.keys", "model, optimizer, epoch, scaler, max_accuracy, args"},
                      {"pth.entry.epoch", "29"},
                      {"pth.entry.max_accuracy", "70.44"},
                      {"pth.ignored",
                       "optimizer (a dictionary of 2), scaler (a dictionary of 1), args (an object "
                       "of argparse.Namespace)"}}));
}

// The fixture is torch.save({"state_dict": ..., "epoch": 3, "args": Namespace}, path,
// _use_new_zipfile_serialization=False) of torch 2.13, names prefixed with "module.".
TEST(PthTest, ReadsTheOlderLayout) {
  const TensorFile file = read_pth(ECO_FIXTURES "/torch_legacy.pth");
  EXPECT_EQ(file.metadata.at("pth.layout"), "legacy");
  EXPECT_EQ(file.metadata.at("pth.state"), "state_dict");
  EXPECT_EQ(file.metadata.at("pth.prefix"), "module.");
  EXPECT_EQ(file.metadata.at("pth.entry.epoch"), "3");
  const at::Tensor base = torch::arange(6, at::kFloat).reshape({2, 3});
  const std::map<std::string, at::Tensor> expected = {
      {"half", torch::tensor({1.5, -2.0}).to(at::kHalf)},
      {"brain", torch::full({1, 1}, 0.5, at::kBFloat16)},
      {"long", torch::tensor(-7, at::kLong)},
      {"mask", torch::tensor({1, 0, 1}).to(at::kBool)},
      {"weight", base},
      {"tied", base},
      {"transposed", base.t()},
      {"column", base.select(1, 1)},
      {"empty", torch::zeros({0, 4}, at::kDouble)},
      {"parameter", torch::ones({2})}};
  ASSERT_EQ(file.tensors.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(same(file.tensors.at(name), tensor)) << name;
  }
  EXPECT_EQ(file.tensors.at("tied").data_ptr(), file.tensors.at("weight").data_ptr());
  EXPECT_EQ(file.tensors.at("transposed").strides(), base.t().strides());
  EXPECT_TRUE(file.tensors.at("column").is_alias_of(file.tensors.at("weight")));
  EXPECT_FALSE(file.tensors.at("parameter").requires_grad());
}

TEST(PthTest, KeepsWhatNestedAndUnusualFilesHold) {
  const std::string corpus = ECO_PTH_CORPUS;
  const TensorFile nested = read_pth(corpus + "/valid_nested");
  EXPECT_EQ(nested.tensors.begin()->first, "a.b");
  EXPECT_EQ(nested.metadata.at("pth.ignored"), "a.c (a list of 0), d (a dictionary of 0)");

  const TensorFile untyped = read_pth(corpus + "/valid_protocol4");
  const at::Tensor floats = torch::arange(1, 7, at::kFloat);
  EXPECT_TRUE(same(untyped.tensors.at("w").view(at::kFloat), floats));
  EXPECT_EQ(untyped.tensors.at("w").scalar_type(), at::kUInt64);

  const TensorFile checkpoint = read_pth(corpus + "/valid_checkpoint");
  EXPECT_TRUE(same(checkpoint.tensors.at("t"), floats.reshape({2, 3}).t()));
  EXPECT_TRUE(same(checkpoint.tensors.at("c"), torch::tensor(4, at::kLong)));
  EXPECT_TRUE(same(checkpoint.tensors.at("p"), floats.reshape({2, 3})));
  EXPECT_EQ(checkpoint.metadata.at("pth.entry.best"), "70.5");
  EXPECT_EQ(checkpoint.metadata.at("pth.entry.note"), "None");
  EXPECT_THAT(checkpoint.metadata.at("pth.ignored"), HasSubstr("big (an integer of 11 bytes)"));
}

/// A pickle of protocol 4 with the given opcodes.
Pickle parsed(const std::string& opcodes) {
  const std::string bytes = "\x80\x04" + opcodes + ".";
  return parse_pickle(std::as_bytes(std::span(bytes)), "input");
}

TEST(PickleTest, ReadsNumbersOfEveryWidth) {
  const auto integer = [](const std::string& opcodes) {
    const Pickle pickle = parsed(opcodes);
    EXPECT_EQ(pickle.values[pickle.root].kind, PickleKind::kInteger);
    return pickle.values[pickle.root].integer;
  };
  EXPECT_EQ(integer("K\xFF"), 255);
  EXPECT_EQ(integer("M\x01\xFF"), 0xFF01);
  EXPECT_EQ(integer("J\xFE\xFF\xFF\xFF"), -2);
  EXPECT_EQ(integer(std::string("\x8A\0", 2)), 0);
  EXPECT_EQ(integer("\x8A\x01\x80"), -128);
  EXPECT_EQ(integer(std::string("\x8A\x02\x80\0", 4)), 128);
  EXPECT_EQ(integer("\x8A\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"),
            std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(integer(std::string("\x8B\x01\0\0\0\xFF", 6)), -1);
  const Pickle real = parsed(std::string("G\xC0\x04\0\0\0\0\0\0", 9));
  EXPECT_EQ(real.values[real.root].real, -2.5);
}

// A list of no bytes for each of 2^21 + 1 values: the limit stands in for the memory they would
// take.
TEST(PickleTest, LimitsTheNumberOfValues) {
  try {
    parsed(std::string((std::size_t{1} << 21) + 1, ']'));
    FAIL() << "expected an InputError";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("expected at most 2097152 values, got more"));
  }
}

TEST(TensorFileTest, TellsFormatsByTheirContent) {
  const fs::path folder = fs::path(::testing::TempDir()) / "tensor_file_formats";
  fs::create_directories(folder);
  // A header of 0x80 bytes begins as a pickle does.
  const fs::path path = folder / "weights.pth";
  std::ofstream(path, std::ios::binary)
      << std::string("\x80\0\0\0\0\0\0\0{}", 10) << std::string(126, ' ');
  EXPECT_EQ(tensor_format(path), TensorFormat::kSafetensors);
  EXPECT_TRUE(read_tensor_file(path).tensors.empty());
  EXPECT_EQ(tensor_format(std::string(ECO_PTH_CORPUS) + "/valid_legacy"), TensorFormat::kPth);
  EXPECT_EQ(tensor_format(std::string(ECO_PTH_CORPUS) + "/valid_zip"), TensorFormat::kPth);
  for (const std::string start : {"", "GIF89a, a picture"}) {
    std::ofstream(path, std::ios::binary) << start;
    try {
      read_tensor_file(path);
      FAIL() << "expected an InputError";
    } catch (const InputError& error) {
      EXPECT_EQ(error.what(), "read " + path.string() +
                                  ": expected a safetensors file or one of torch.save, got a "
                                  "start like neither");
    }
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace ecoformer::io
