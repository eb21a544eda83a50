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
#include "ecoformer/io/safetensors.h"

/// The entry point of fuzz/safetensors_fuzzer.cpp, under the name that CMakeLists.txt gives it
/// here.
extern "C" int replay_safetensors(const std::uint8_t* data, std::size_t size);

namespace ecoformer::io {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::map<std::string, std::string> corpus() {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(ECO_SAFETENSORS_CORPUS)) {
    std::ifstream stream(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] = {std::istreambuf_iterator<char>(stream), {}};
  }
  return files;
}

/// The message with which the reader refuses `bytes`, or nothing.
std::string refusal(const std::string& bytes) {
  try {
    parse_safetensors(std::as_bytes(std::span(bytes)), "input");
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST(SafetensorsReplayTest, RefusesEachHostileFileForItsReason) {
  const std::map<std::string, std::string> reasons = {
      {"too_short", "got 3 bytes, less than its first field"},
      {"length_zero", "got a header of 0 bytes"},
      {"length_huge", "at most 100000000 bytes, got 9223372036854775808"},
      {"length_above_limit", "at most 100000000 bytes, got 100000001"},
      {"length_beyond_file",
       "expected a safetensors header of 3 bytes, got a file that ends after 2"},
      {"not_json", "expected a header of JSON in UTF-8, got an error at byte 3 of the header"},
      {"not_an_object", "begins with '{', got '['"},
      {"leading_space", "begins with '{', got ' '"},
      {"only_open", "expected a header of JSON"},
      {"two_documents", "expected a header of JSON"},
      {"deep_array", "expected an object for the key 'a', got an array"},
      {"deep_object", "expected tensor 'a' with the keys dtype"},
      {"invalid_utf8", "expected a header of JSON in UTF-8"},
      {"surrogate", "expected a header of JSON in UTF-8"},
      {"null_tensor", "expected an object for the key 'a', got null"},
      {"number_tensor", "expected an object for the key 'a', got a number"},
      {"array_tensor", "expected an object for the key 'a', got an array"},
      {"extra_field", "got the key 'extra'"},
      {"missing_field", "got only {\"dtype\", \"shape\"}"},
      {"empty_tensor", "got only {}"},
      {"duplicate_tensor", "expected each key once, got the key 'a' twice"},
      {"duplicate_field", "got the key 'dtype' twice"},
      {"duplicate_metadata", "got the key 'k' twice"},
      {"duplicate_metadata_object", "got the key '__metadata__' twice"},
      {"metadata_number", "expected a string for the metadata 'k', got a number"},
      {"metadata_object", "expected a string for the metadata 'k', got an object"},
      {"metadata_string", "expected an object for the key '__metadata__', got a string"},
      {"dtype_unknown", "F8_E5M2, F8_E4M3, got 'F4'"},
      {"dtype_control", "got '?[31mxxx"},
      {"dtype_number",
       "tensor 'a' with the keys dtype (a string), shape and data_offsets (arrays), "
       "got a number"},
      {"shape_string", "shape and data_offsets (arrays), got a string"},
      {"shape_negative", "got a negative number"},
      {"shape_fraction", "got a number that is no integer of 64 bits"},
      {"shape_nested",
       "expected tensor 'a' with a shape of at most 64 non-negative integers, got an "
       "array"},
      {"shape_64_bits", "got a dimension of more than 63 bits"},
      {"shape_beyond_64_bits", "got a number that is no integer of 64 bits"},
      {"shape_product_overflows",
       "of fewer than 2^63 bytes, got shape [4294967296, 4294967296, 2]"},
      {"shape_bytes_overflow", "of fewer than 2^63 bytes"},
      {"shape_overflow_behind_zero", "of fewer than 2^63 bytes"},
      {"shape_rank", "got more than 64 dimensions"},
      {"offsets_one",
       "expected tensor 'a' with data_offsets of two non-negative integers, got 1 "
       "numbers"},
      {"offsets_three", "got a third number"},
      {"offsets_negative", "got a negative number"},
      {"offsets_reversed", "begin <= end, got [2, 0]"},
      {"offsets_out_of_range", "expected 4 bytes of data for tensor 'a', got only 2"},
      {"offsets_wrap", "got a hole at byte 18446744073709551614"},
      {"offsets_hole", "expected tensor 'b' to begin at byte 1 of the data, got a hole at byte 2"},
      {"offsets_overlap",
       "expected tensor 'b' to begin at byte 2 of the data, got an overlap at byte "
       "1"},
      {"offsets_late_start", "got a hole at byte 1"},
      {"byte_count_large",
       "expected tensor 'a' of 4 bytes (F32 [1]), got data_offsets [0, 2] of 2 "
       "bytes"},
      {"byte_count_small", "expected tensor 'a' of 1 bytes (U8 [1])"},
      {"trailing_bytes", "expected 2 bytes of data, got 1 bytes more at the end"},
      {"trailing_bytes_only", "expected 0 bytes of data, got 2 bytes more at the end"},
      {"bool_two", "expected BOOL tensor 'a' of bytes 0 and 1"}};

  std::size_t hostile = 0;
  for (const auto& [name, bytes] : corpus()) {
    if (name.rfind("valid_", 0) == 0) {
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

TEST(SafetensorsReplayTest, RefusesEveryTruncation) {
  for (const auto& [name, bytes] : corpus()) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const std::string start = bytes.substr(0, size);
      replay_safetensors(reinterpret_cast<const std::uint8_t*>(start.data()), size);
      // Some hostile files, the ones with too much data, become valid.
      const bool must_be_refused = name.rfind("valid_", 0) == 0;
      EXPECT_TRUE(!refusal(start).empty() || !must_be_refused) << name << " " << size;
    }
  }
}

TEST(SafetensorsReplayTest, SurvivesEveryFlippedBit) {
  for (const auto& [name, bytes] : corpus()) {
    std::string flipped = bytes;
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      const char mask = static_cast<char>(1 << bit % 8);
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ mask);
      replay_safetensors(reinterpret_cast<const std::uint8_t*>(flipped.data()), flipped.size());
      refusal(flipped);
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ mask);
    }
  }
}

}  // namespace
}  // namespace ecoformer::io
