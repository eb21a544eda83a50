// Replays the fuzz corpus: each hostile file must be refused for the right reason, and no change or
// truncation of any file may do more than be refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>

#include "ecoformer/base/error.h"
#include "ecoformer/io/pth.h"

/// The entry point of fuzz/pth_fuzzer.cpp, under the name that CMakeLists.txt gives it here.
extern "C" int replay_pth(const std::uint8_t* data, std::size_t size);

namespace ecoformer::io {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::map<std::string, std::string> corpus() {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(ECO_PTH_CORPUS)) {
    std::ifstream stream(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] = {std::istreambuf_iterator<char>(stream), {}};
  }
  return files;
}

bool is_valid(const std::string& name) {
  return name.rfind("valid_", 0) == 0;
}

/// The message with which the reader refuses `bytes`, or nothing.
std::string refusal(const std::string& bytes) {
  replay_pth(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  try {
    parse_pth(std::as_bytes(std::span(bytes)), "input");
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST(PthReplayTest, RefusesEachHostileFileForItsReason) {
  const std::map<std::string, std::string> reasons = {
      {"append_to_dict",
       "expected a list to fill, got a value of another kind before byte 5 of the pickle"},
      {"build_on_list",
       "expected a dictionary or object to give attributes, got a value of another kind before "
       "byte 5 of the pickle"},
      {"bytes_huge", "expected 4294967295 bytes at byte 7 of the pickle, got only 1"},
      {"call_of_object",
       "expected a class or function, got a value of another kind before byte 19 of the pickle"},
      {"call_of_text",
       "expected a class or function, got a value of another kind before byte 10 of the pickle"},
      {"deep", "expected dictionaries nested at most 32 deep, got 'a.a."},
      {"doubling", "in a second place"},
      {"empty", "expected a file of torch.save, got neither a ZIP file nor a pickle"},
      {"fill_text",
       "expected a dictionary to fill, got a value of another kind before byte 12 of the pickle"},
      {"global_class", "got the global 'models.Net'"},
      {"global_dotted", "got the global 'torch._utils'"},
      {"global_in_args", "got the global 'subprocess.Popen'"},
      {"global_long", "got the global 'xxx"},
      {"global_stack", "got the global 'posix.system'"},
      {"global_system", "got the global 'os.system'"},
      {"global_unused", "got the global 'builtins.eval'"},
      {"in_itself", "expected a tree of dictionaries, got 'a.' in a second place"},
      {"in_itself_deeper", "expected a tree of dictionaries, got 'a.b.' in a second place"},
      {"legacy_big_endian", "expected little-endian data, got another byte order"},
      {"legacy_key_twice", "expected a list of the pickle's storages, each once, got '0'"},
      {"legacy_long", "expected 251 bytes, got 252"},
      {"legacy_no_key", "expected the data of storage '0', got none"},
      {"legacy_short", "expected 24 bytes of storage '0', got only 23"},
      {"legacy_unknown_key", "expected a list of the pickle's storages, each once, got '1'"},
      {"legacy_view",
       "expected a storage that is no view of another, got a value of another kind before byte 116 "
       "of the pickle"},
      {"legacy_wrong_count", "expected 6 elements of storage '0', got 7"},
      {"legacy_wrong_magic",
       "expected a file of torch.save, got a pickle without its magic number"},
      {"legacy_wrong_protocol", "expected protocol 1001 of torch.save, got another"},
      {"memo_unknown",
       "expected a value of the memo, got the unknown number 7 before byte 4 of the pickle"},
      {"name_long", "expected names of at most 512 bytes, got 'nnn"},
      {"name_tuple", "expected dictionaries with text or integers for keys, got a tuple of 0"},
      {"name_twice", "expected each name once, got 'w' twice"},
      {"name_twice_flat", "expected each name once, got 'a.b' twice"},
      {"no_mark", "expected a mark, got none before byte 3 of the pickle"},
      {"no_proto",
       "expected a pickle of protocol 2 to 5, got no PROTO opcode before byte 1 of the pickle"},
      {"no_stop", "expected 1 bytes at byte 158 of the pickle, got only 0"},
      {"not_ours", "expected a file of torch.save, got neither a ZIP file nor a pickle"},
      {"odd_items", "expected a value for each key, got none before byte 6 of the pickle"},
      {"opcode_extension",
       "expected an opcode of a pickle of data, got 0x82 before byte 3 of the pickle"},
      {"opcode_unknown",
       "expected an opcode of a pickle of data, got 0xFF before byte 3 of the pickle"},
      {"parameter_of_nothing",
       "expected a parameter's tensor, got no arguments before byte 37 of the pickle"},
      {"protocol_0",
       "expected a pickle of protocol 2 to 5, got protocol 0 before byte 2 of the pickle"},
      {"protocol_6",
       "expected a pickle of protocol 2 to 5, got protocol 6 before byte 2 of the pickle"},
      {"root_list", "expected a dictionary of tensors, got a list of 1"},
      {"root_tensor", "expected a dictionary of tensors, got a tensor"},
      {"stack_below_mark", "expected a value, got none before byte 5 of the pickle"},
      {"stack_empty", "expected a value, got none before byte 3 of the pickle"},
      {"storage_class",
       "expected a storage class, got 'collections.OrderedDict' before byte 103 of the pickle"},
      {"storage_huge",
       "expected a storage of fewer than 2^63 bytes, got 4611686018427387904 elements before byte "
       "103 of the pickle"},
      {"storage_key_long",
       "expected a storage's key of at most 100 bytes, got 200 before byte 297 of the pickle"},
      {"storage_negative", "expected an element count, got -1 before byte 98 of the pickle"},
      {"storage_no_tuple",
       "expected a storage's tuple, got a value of another kind before byte 4 of the pickle"},
      {"storage_two_sizes",
       "expected one dtype and size for storage '0', got two before byte 251 of the pickle"},
      {"storage_word", "expected the word 'storage', got 'module' before byte 97 of the pickle"},
      {"tensor_conjugate",
       "expected a tensor without metadata, got some before byte 170 of the pickle"},
      {"tensor_dtype",
       "expected a dtype of an untyped storage, got 'torch.complex64' before byte 184 of the "
       "pickle"},
      {"tensor_expanded",
       "expected tensor 'w' of at most the 6 elements of its storage, got shape [1099511627776], "
       "strides [0], offset 0"},
      {"tensor_few_arguments",
       "expected a tensor's 6 or 7 arguments, got 1 before byte 92 of the pickle"},
      {"tensor_negative_offset",
       "expected a tensor's offset, got -1 before byte 157 of the pickle"},
      {"tensor_negative_size", "expected a tensor's size, got -1 before byte 147 of the pickle"},
      {"tensor_negative_stride",
       "expected a tensor's stride, got -3 before byte 157 of the pickle"},
      {"tensor_no_storage",
       "expected a tensor's storage, got a value of another kind before byte 104 of the pickle"},
      {"tensor_offset_empty",
       "expected tensor 'w' within the 6 elements of its storage, got shape [0], strides [1], "
       "offset 7"},
      {"tensor_offset_out",
       "expected tensor 'w' within the 6 elements of its storage, got shape [2, 3], strides [3, "
       "1], offset 1"},
      {"tensor_out_of_range",
       "expected tensor 'w' of at most the 6 elements of its storage, got shape [7], strides [1], "
       "offset 0"},
      {"tensor_product_wraps",
       "expected tensor 'w' of at most the 6 elements of its storage, got shape [4294967296, "
       "4294967296], strides [0, 0], offset 0"},
      {"tensor_rank_65",
       "expected size and stride of one rank, at most 64, got 65 and 65 before byte 787 of the "
       "pickle"},
      {"tensor_ranks",
       "expected size and stride of one rank, at most 64, got 2 and 1 before byte 152 of the "
       "pickle"},
      {"tensor_size_text",
       "expected a tensor's size, got a value of another kind before byte 113 of the pickle"},
      {"tensor_stride_out",
       "expected tensor 'w' within the 6 elements of its storage, got shape [2, 3], strides [4, "
       "1], offset 0"},
      {"tensor_stride_wraps",
       "expected tensor 'w' within the 6 elements of its storage, got shape [2, 3], strides "
       "[4611686018427387904, 4611686018427387904], offset 0"},
      {"tensor_two_dtypes",
       "expected a dtype from either the storage or the tensor, got both before byte 171 of the "
       "pickle"},
      {"tensor_untyped",
       "expected a dtype from either the storage or the tensor, got neither before byte 167 of the "
       "pickle"},
      {"text_huge", "expected 9223372036854775808 bytes at byte 11 of the pickle, got only 1"},
      {"text_not_utf8", "expected text in UTF-8, got other bytes before byte 9 of the pickle"},
      {"text_surrogate", "expected text in UTF-8, got other bytes before byte 10 of the pickle"},
      {"zip_big_endian", "expected little-endian data, got 'big'"},
      {"zip_compressed",
       "expected ZIP entries stored as they are, as torch.save writes them, got 'a/byteorder' "
       "compressed or encrypted"},
      {"zip_cut",
       "expected a ZIP file that ends in its directory, got none; the file may be cut off"},
      {"zip_encrypted",
       "expected ZIP entries stored as they are, as torch.save writes them, got 'a/byteorder' "
       "compressed or encrypted"},
      {"zip_far_place", "expected 30 bytes at byte 9223372036854776015, got a file of 681"},
      {"zip_huge_count", "expected a ZIP directory of 9223372036854775808 entries, got 3"},
      {"zip_huge_directory",
       "expected a ZIP directory of at most 67108864 bytes, got 4611686018427387904"},
      {"zip_huge_size",
       "expected 9223372036854775808 bytes of ZIP entry 'a/data.pkl', got a file that ends before"},
      {"zip_long_directory", "expected a ZIP directory of 1048576 bytes, got a file of 681"},
      {"zip_no_directory64",
       "expected a ZIP64 end record where its locator points, got something else"},
      {"zip_no_pickle", "expected a ZIP file of torch.save, with an entry '*/data.pkl', got none"},
      {"zip_no_storage", "expected a ZIP entry 'a/data/0', got none"},
      {"zip_overlap", "expected storages side by side, got an overlap at byte 506"},
      {"zip_short_storage", "expected 24 bytes of storage '0', got 23"},
      {"zip_twice", "expected each ZIP entry once, got 'a/data.pkl' twice"},
      {"zip_two_pickles", "expected one entry '*/data.pkl', got two"},
      {"zip_wrong_count", "expected a ZIP directory of 7 entries, got 3"},
      {"zip_wrong_place", "expected a header before ZIP entry 'a/byteorder', got something else"}};

  std::size_t hostile = 0;
  for (const auto& [name, bytes] : corpus()) {
    if (is_valid(name)) {
      EXPECT_EQ(refusal(bytes), "") << name;
      continue;
    }
    ++hostile;
    const auto reason = reasons.find(name);
    ASSERT_NE(reason, reasons.end()) << name;
    const std::string message = refusal(bytes);
    EXPECT_THAT(message, StartsWith("read input: expected ")) << name;
    EXPECT_THAT(message, HasSubstr(reason->second)) << name;
    EXPECT_LT(message.size(), 400U) << name;
  }
  EXPECT_EQ(hostile, reasons.size());
}

TEST(PthReplayTest, RefusesEveryTruncation) {
  for (const auto& [name, bytes] : corpus()) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const std::string message = refusal(bytes.substr(0, size));
      // A hostile file with too much data becomes valid.
      EXPECT_TRUE(!message.empty() || !is_valid(name)) << name << " " << size;
    }
  }
}

TEST(PthReplayTest, SurvivesEveryFlippedBit) {
  for (const auto& [name, bytes] : corpus()) {
    // The hostile ones differ from the valid ones in one place each.
    if (!is_valid(name)) continue;
    std::string flipped = bytes;
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      const char mask = static_cast<char>(1 << bit % 8);
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ mask);
      refusal(flipped);
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ mask);
    }
  }
}

}  // namespace
}  // namespace ecoformer::io
