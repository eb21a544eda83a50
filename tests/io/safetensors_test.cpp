// Reading, writing and picking tensors. What hostile files are refused for is in
// safetensors_replay_test.cpp.
#include "ecoformer/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <torch/torch.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>

#include "ecoformer/base/error.h"

namespace ecoformer::io {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class SafetensorsTest : public ::testing::Test {
 protected:
  SafetensorsTest()
      : folder_(fs::path(::testing::TempDir()) /
                ("safetensors_" +
                 std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()))),
        path_(folder_ / "file.safetensors") {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~SafetensorsTest() override { fs::remove_all(folder_); }

  static std::string content(const fs::path& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  template <typename Action>
  static std::string error_of(const Action& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }

  static bool same_bits(const at::Tensor& a, const at::Tensor& b) {
    return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
           (a.nbytes() == 0 ||
            std::memcmp(a.contiguous().data_ptr(), b.contiguous().data_ptr(), a.nbytes()) == 0);
  }

  fs::path folder_;
  fs::path path_;
};

TEST_F(SafetensorsTest, RoundTripOfAllDtypesAndShapes) {
  TensorFile file;
  file.metadata = {{"format", "pt"}, {"quoted \"text\"", "line\nbreak \xC3\xA4"}, {"", ""}};
  const std::vector<at::ScalarType> dtypes = {
      at::kBool,   at::kByte,         at::kChar,        at::kUInt16,
      at::kShort,  at::kUInt32,       at::kInt,         at::kUInt64,
      at::kLong,   at::kHalf,         at::kBFloat16,    at::kFloat,
      at::kDouble, at::kComplexFloat, at::kFloat8_e5m2, at::kFloat8_e4m3fn};
  const std::vector<std::vector<std::int64_t>> shapes = {{},  {0}, {3, 0, 2},
                                                         {1}, {5}, {2, 3, 1, 7}};
  for (const at::ScalarType dtype : dtypes) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      at::Tensor tensor = torch::empty(shapes[i], dtype);
      auto* bytes = static_cast<unsigned char*>(tensor.data_ptr());
      for (std::size_t j = 0; j < tensor.nbytes(); ++j) {
        bytes[j] = static_cast<unsigned char>(dtype == at::kBool ? j % 2 : 37 * j + i);
      }
      file.tensors[std::string(at::toString(dtype)) + "." + std::to_string(i)] = tensor;
    }
  }
  write_safetensors(path_, file);
  const TensorFile read = read_safetensors(path_);
  EXPECT_EQ(read.metadata, file.metadata);
  EXPECT_EQ(read.source, path_.string());
  ASSERT_EQ(read.tensors.size(), file.tensors.size());
  for (const auto& [name, tensor] : file.tensors) {
    EXPECT_TRUE(same_bits(read.tensors.at(name), tensor)) << name;
  }

  const std::string bytes = content(path_);
  const TensorFile parsed = parse_safetensors(std::as_bytes(std::span(bytes)), "memory");
  for (const auto& [name, tensor] : file.tensors) {
    EXPECT_TRUE(same_bits(parsed.tensors.at(name), tensor)) << name;
  }

  // Same content, same bytes; header padded and elements aligned.
  write_safetensors(folder_ / "again", read);
  EXPECT_EQ(content(folder_ / "again"), bytes);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  EXPECT_EQ(length % 8, 0U);
  for (const TensorInfo& info : list_safetensors(path_)) {
    EXPECT_EQ(info.offset % file.tensors.at(info.name).element_size(), 0U) << info.name;
  }
}

TEST_F(SafetensorsTest, WritesValuesOfViews) {
  const at::Tensor base = torch::arange(24, at::kFloat).reshape({2, 3, 4});
  const at::Tensor complex = torch::complex(base, base + 1);
  const std::map<std::string, at::Tensor> views = {
      {"transposed", base.transpose(0, 2)},
      {"sliced", base.slice(2, 1, 4, 2)},
      {"expanded", base.select(0, 1).unsqueeze(0).expand({5, 3, 4})},
      {"parameter", base.clone().set_requires_grad(true)},
      {"conjugate", complex.conj()},
      {"negative", torch::imag(complex.conj())}};
  write_safetensors(path_, {.tensors = views, .metadata = {}});
  const TensorFile read = read_safetensors(path_);
  for (const auto& [name, tensor] : views) {
    EXPECT_TRUE(torch::equal(read.tensors.at(name), tensor)) << name;
  }
}

TEST_F(SafetensorsTest, NothingIsAFileToo) {
  write_safetensors(path_, {});
  EXPECT_EQ(content(path_), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  EXPECT_TRUE(read_safetensors(path_).tensors.empty());
}

TEST_F(SafetensorsTest, ReadsFileOfThePythonPackage) {
  const TensorFile file = read_safetensors(ECO_FIXTURES "/python_written.safetensors");
  EXPECT_EQ(file.metadata,
            (std::map<std::string, std::string>{{"format", "pt"}, {"note", "b\xC3\xA4r"}}));
  ASSERT_EQ(file.tensors.size(), 8U);
  const auto equals = [&file](const char* name, const at::Tensor& expected) {
    const at::Tensor tensor = take(file, name, expected.scalar_type(), expected.sizes().vec());
    return same_bits(tensor, expected);
  };
  EXPECT_TRUE(equals("weight", torch::arange(6, at::kFloat).reshape({2, 3}) / 4));
  EXPECT_TRUE(equals("half", torch::tensor({1.5, -2.0}).to(at::kHalf)));
  EXPECT_TRUE(equals("brain", torch::tensor({0.5}).to(at::kBFloat16).reshape({1, 1})));
  EXPECT_TRUE(equals("scalar", torch::tensor(-7, at::kLong)));
  EXPECT_TRUE(equals("mask", torch::tensor({1, 0, 1}).to(at::kBool)));
  EXPECT_TRUE(equals("empty", torch::zeros({0, 4}, at::kDouble)));
  EXPECT_TRUE(equals("f8", torch::tensor({1.0, -0.5}).to(at::kFloat8_e4m3fn)));
  EXPECT_TRUE(equals("complex", torch::complex(torch::tensor({1.0F}), torch::tensor({2.0F}))));
}

TEST_F(SafetensorsTest, ListsAndReadsAFixture) {
  const fs::path fixture = ECO_FIXTURES "/attention_b2_h1_n64_d32.safetensors";
  const TensorFile file = read_safetensors(fixture);
  const std::vector<TensorInfo> list = list_safetensors(fixture);
  ASSERT_EQ(list.size(), file.tensors.size());
  std::uint64_t end = list.front().offset;
  for (const TensorInfo& info : list) {
    EXPECT_EQ(info.offset, end);
    EXPECT_EQ(info.shape, file.tensors.at(info.name).sizes().vec());
    EXPECT_EQ(info.bytes, file.tensors.at(info.name).nbytes());
    end += info.bytes;
  }
  EXPECT_EQ(end, fs::file_size(fixture));
  const at::Tensor codes = take(file, "codes", at::kChar, std::vector<std::int64_t>{2, 1, 64, -1});
  EXPECT_TRUE(codes.abs().eq(1).all().item<bool>());
  // Unit vectors, normalised in float32: 32 roundings of at most 2^-24 each, doubled for the root.
  const at::Tensor norms = take(file, "supports", at::kFloat).norm(2, -1);
  EXPECT_LE((norms - 1).abs().max().item<float>(), 64 * std::ldexp(1.0F, -24));
}

TEST_F(SafetensorsTest, TakeNamesWhatIsWrong) {
  TensorFile file;
  file.tensors["x"] = torch::zeros({2, 3});
  file.source = "in.safetensors";
  using Shape = std::vector<std::int64_t>;
  EXPECT_EQ(take(file, "x", at::kFloat, Shape{-1, 3}).data_ptr(), file.tensors["x"].data_ptr());
  EXPECT_EQ(error_of([&] { take(file, "y"); }),
            "read in.safetensors: expected a tensor 'y', got none of that name");
  EXPECT_EQ(error_of([&] {
              take(file, "x", at::kChar, Shape{-1, 3});
            }),
            "read in.safetensors: expected tensor 'x' as Char [-1, 3], got Float [2, 3]");
  EXPECT_EQ(error_of([&] {
              take(file, "x", std::nullopt, Shape{2, 3, -1});
            }),
            "read in.safetensors: expected tensor 'x' as [2, 3, -1], got Float [2, 3]");
  EXPECT_EQ(error_of([&] { take(file, "x", at::kFloat, Shape{}); }),
            "read in.safetensors: expected tensor 'x' as Float [], got Float [2, 3]");
}

TEST_F(SafetensorsTest, RefusesToWriteWhatTheFormatLacks) {
  const auto write = [this](const std::string& name, const at::Tensor& tensor) {
    return error_of([&] {
      write_safetensors(path_, {.tensors = {{name, tensor}}, .metadata = {}});
    });
  };
  EXPECT_THAT(write("x", torch::zeros({2}, at::kComplexDouble)),
              HasSubstr("for 'x', got ComplexDouble"));
  EXPECT_THAT(write("x", torch::zeros({2}).to_sparse()), HasSubstr("got another layout"));
  EXPECT_THAT(write("x", at::Tensor()), HasSubstr("got an undefined tensor"));
  EXPECT_THAT(write("__metadata__", torch::zeros({2})), HasSubstr("got a name that the format"));
  EXPECT_THAT(write("\xFF", torch::zeros({2})), HasSubstr("expected names and metadata in UTF-8"));
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(SafetensorsTest, FailedWriteLeavesOldFile) {
  write_safetensors(path_, {.tensors = {{"old", torch::ones({3})}}, .metadata = {}});
  const std::string before = content(path_);
  const TensorFile large{.tensors = {{"new", torch::zeros({100'000})}}, .metadata = {}};

  // A limit on the size of files fails write(2) in the middle, as a full disk does.
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limited{.rlim_cur = 100'000, .rlim_max = limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  const std::string message = error_of([&] { write_safetensors(path_, large); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, HasSubstr("got 'File too large'"));

  // tests/base covers folders that cannot be written to.
  EXPECT_THAT(error_of([&] { write_safetensors(folder_ / "none" / "file", large); }),
              HasSubstr("got 'No such file or directory'"));
  EXPECT_EQ(content(path_), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(SafetensorsTest, NamesFilesThatCannotBeRead) {
  EXPECT_EQ(error_of([&] { read_safetensors(path_); }),
            "read " + path_.string() +
                ": expected a file that can be read, got 'No such file or "
                "directory'");
  EXPECT_EQ(error_of([&] { list_safetensors(folder_); }),
            "read " + folder_.string() + ": expected a regular file, got something else");
  std::ofstream(path_).close();
  EXPECT_EQ(error_of([&] { read_safetensors(path_); }),
            "read " + path_.string() +
                ": expected a safetensors file, got 0 bytes, less than its first field");
}

}  // namespace
}  // namespace ecoformer::io
