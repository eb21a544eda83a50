// Decoding against Pillow, hostile files, and PNG written and read again.
#include "ecoformer/data/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <string>

#include "data/expect_error.h"
#include "data/image_fixture.h"
#include "data/temp_folder.h"
#include "ecoformer/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace ecoformer::data {
namespace {

namespace fs = std::filesystem;

Image decode(std::string_view bytes) {
  return decode_image(std::as_bytes(std::span(bytes)), "x");
}

void put_big_endian(std::string& bytes, std::size_t at, std::uint32_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    bytes[at + i] = static_cast<char>(value >> 8 * (size - 1 - i));
  }
}

// rgb.png with other sizes in its header, whose checksum fits.
std::string png_of_size(std::uint32_t height, std::uint32_t width) {
  constexpr std::size_t kHeader = 12;  // Where the type of the first chunk begins.
  std::string bytes = read_all(fixture_file("rgb.png"));
  put_big_endian(bytes, kHeader + 4, width, 4);
  put_big_endian(bytes, kHeader + 8, height, 4);
  std::uint32_t crc = ~0U;
  for (std::size_t i = kHeader; i < kHeader + 17; ++i) {
    crc ^= static_cast<unsigned char>(bytes[i]);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320U : 0);
  }
  put_big_endian(bytes, kHeader + 17, ~crc, 4);
  return bytes;
}

// rgb.jpg with other sizes in its frame header.
std::string jpeg_of_size(std::uint32_t height, std::uint32_t width) {
  std::string bytes = read_all(fixture_file("rgb.jpg"));
  const std::size_t frame = bytes.find("\xFF\xC0");
  put_big_endian(bytes, frame + 5, height, 2);
  put_big_endian(bytes, frame + 7, width, 2);
  return bytes;
}

TEST(ImageTest, DecodesAsPillowDoes) {
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(fixture_file(""))) {
    const std::string name = entry.path().filename().string();
    EXPECT_EQ(largest_difference(read_image(entry.path()), pillow("decoded " + name)), 0) << name;
    ++files;
  }
  EXPECT_EQ(files, 13U);
}

TEST(ImageTest, ChoosesTheDecoderByTheFirstBytes) {
  const TempFolder folder;
  const fs::path png = folder.write("really_png.JPEG", read_all(fixture_file("rgb.png")));
  const fs::path jpeg = folder.write("really_jpeg.png", read_all(fixture_file("rgb.jpg")));
  EXPECT_EQ(largest_difference(read_image(png), pillow("decoded rgb.png")), 0);
  EXPECT_EQ(largest_difference(read_image(jpeg), pillow("decoded rgb.jpg")), 0);
}

TEST(ImageTest, RefusesWhatIsNoPicture) {
  const TempFolder folder;
  const auto refused = [](const fs::path& path, std::initializer_list<std::string> parts) {
    expect_input_error([&] { read_image(path); }, parts);
    expect_input_error([&] { read_image(path); }, {path.string()});
  };
  refused(folder.write("empty.jpg", ""), {"expected a JPEG or PNG file, got an empty one"});
  refused(folder.write("zip.jpg", std::string("PK\3\4\0\0\0\0\0\0", 10)),
          {"got one that begins with 50 4b 03 04 00 00 00 00"});
  refused(folder.write("short.png", "\x89PN"), {"got one that begins with 89 50 4e"});
  refused(folder.path() / "missing.jpg", {"expected a readable file"});
  refused(folder.path(), {"expected a readable file"});
}

TEST(ImageTest, RefusesTruncatedFiles) {
  for (const char* name : {"rgb.jpg", "progressive.jpg", "cmyk.jpg", "rgb.png", "palette.png"}) {
    const std::string whole = read_all(fixture_file(name));
    // Both formats end in a marker that follows the last pixel: 2 bytes, or a chunk of 12 behind a
    // checksum of 4, and zlib's of 4.
    for (std::size_t size = 0; size < whole.size() - 20; ++size) {
      EXPECT_THROW(decode(whole.substr(0, size)), InputError) << name << " cut to " << size;
    }
  }
  expect_input_error(
      [] { decode(read_all(fixture_file("rgb.jpg")).substr(0, 900)); },
      {"read image x: expected a whole JPEG file, got 'Premature end of JPEG file'"});
  expect_input_error([] { decode(read_all(fixture_file("rgb.png")).substr(0, 900)); },
                     {"read image x: expected a whole PNG file, got 'premature end of file'"});
}

TEST(ImageTest, RefusesHugePicturesBeforeMakingRoom) {
  expect_input_error([] { decode(png_of_size(900'000, 900'000)); },
                     {"expected 1 to 134217728 pixels, got 900000 x 900000"});
  expect_input_error([] { decode(png_of_size(0x7FFFFFFF, 0x7FFFFFFF)); }, {"whole PNG file"});
  expect_input_error([] { decode(jpeg_of_size(65'500, 65'500)); },
                     {"expected 1 to 134217728 pixels, got 65500 x 65500"});
  expect_input_error([] { decode(jpeg_of_size(0, 28)); }, {"whole JPEG file"});
  // The helpers change nothing else.
  EXPECT_EQ(largest_difference(decode(png_of_size(21, 28)), pillow("decoded rgb.png")), 0);
  EXPECT_EQ(largest_difference(decode(jpeg_of_size(21, 28)), pillow("decoded rgb.jpg")), 0);
}

TEST(ImageTest, SurvivesEveryFlippedByteAndTruncation) {
  for (const auto& entry : fs::directory_iterator(ECO_IMAGE_CORPUS)) {
    std::string bytes = read_all(entry.path());
    const auto replay = [&](std::size_t size) {
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), size);
    };
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      replay(i);
      for (const char mask : {'\x01', '\x80', '\xFF'}) {
        bytes[i] = static_cast<char>(bytes[i] ^ mask);
        replay(bytes.size());
        bytes[i] = static_cast<char>(bytes[i] ^ mask);
      }
    }
  }
}

TEST(ImageTest, WritesPngThatReadsBack) {
  const TempFolder folder;
  const fs::path path = folder.path() / "written.png";
  const Image rgb = pillow("decoded rgb.png");
  write_png(path, rgb);
  EXPECT_EQ(largest_difference(read_image(path), rgb), 0);

  const Image gray{.height = 2, .width = 3, .channels = 1, .pixels = {0, 1, 127, 128, 254, 255}};
  write_png(path, gray);
  const Image read = read_image(path);
  ASSERT_EQ(read.pixels.size(), 18U);
  for (std::size_t i = 0; i < read.pixels.size(); ++i) {
    EXPECT_EQ(read.pixels[i], gray.pixels[i / 3]);
  }
}

TEST(ImageTest, RefusesToWriteWhatIsNoPicture) {
  const TempFolder folder;
  const fs::path path = folder.write("kept.png", "old");
  const auto refused = [&](const Image& image) {
    expect_input_error([&] { write_png(path, image); }, {"kept.png: expected pixels [H, W, 3]"});
  };
  refused({});
  refused({.height = 1, .width = 2, .pixels = std::vector<std::uint8_t>(5)});
  refused({.height = 1, .width = 1, .channels = 2, .pixels = std::vector<std::uint8_t>(2)});
  refused({.height = std::int64_t{1} << 62, .width = 4, .pixels = {}});
  EXPECT_EQ(read_all(path), "old");
  EXPECT_THROW(write_png(folder.path() / "no" / "folder.png", pillow("decoded rgb.png")), Error);
}

}  // namespace
}  // namespace ecoformer::data
