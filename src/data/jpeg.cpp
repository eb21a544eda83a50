// JPEG through libjpeg-turbo. libjpeg reports errors by a function that must not return; it jumps
// back into Decoder::run, over frames that hold nothing with a destructor.
#include <cstddef>
// jpeglib.h needs these two before it.
#include <cstdio>
// clang-format off
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <array>
#include <csetjmp>

#include "data/codecs.h"

namespace ecoformer::data {
namespace {

// A progressive file of a few kB may hold thousands of scans, each a pass over the whole picture.
constexpr int kMostScans = 500;

struct Errors {
  jpeg_error_mgr manager;  // First, so that libjpeg's pointer to it is a pointer to this.
  std::jmp_buf back;
  std::array<char, JMSG_LENGTH_MAX> text;
};

[[noreturn]] void fail(j_common_ptr info) {
  auto* const errors = reinterpret_cast<Errors*>(info->err);
  info->err->format_message(info, errors->text.data());
  std::longjmp(errors->back, 1);
}

// Of what libjpeg would rather go on from, only the end of the file loses part of the picture.
void warn(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) fail(info);
}

void limit_scans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMostScans) return;
  auto* const errors = reinterpret_cast<Errors*>(info->err);
  std::snprintf(errors->text.data(), errors->text.size(), "more than %d scans", kMostScans);
  std::longjmp(errors->back, 1);
}

std::uint8_t product_of_shares(int a, int b) {
  const int scaled = a * b + 128;
  return static_cast<std::uint8_t>(((scaled >> 8) + scaled) >> 8);
}

// One row of inverted CMYK, as Adobe writes it and PIL assumes, to RGB with PIL's rounding.
void rgb_of_cmyk(const std::uint8_t* cmyk, std::int64_t width, std::uint8_t* rgb) {
  for (std::int64_t x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const int light = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      rgb[c] = static_cast<std::uint8_t>(light - product_of_shares(255 - cmyk[c], light));
    }
  }
}

class Decoder {
 public:
  explicit Decoder(std::string_view name) : name_(name) {
    info_.err = jpeg_std_error(&errors_.manager);
    errors_.manager.error_exit = fail;
    errors_.manager.emit_message = warn;
    progress_.progress_monitor = limit_scans;
  }
  ~Decoder() { jpeg_destroy_decompress(&info_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  Image decode(std::span<const std::byte> bytes) {
    run([&] {
      jpeg_create_decompress(&info_);
      info_.progress = &progress_;
      jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
      jpeg_read_header(&info_, TRUE);
    });
    Image image = make_image(info_.image_height, info_.image_width, name_);
    const bool cmyk = info_.jpeg_color_space == JCS_CMYK || info_.jpeg_color_space == JCS_YCCK;
    info_.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    std::vector<std::uint8_t> ink(cmyk ? static_cast<std::size_t>(4 * image.width) : 0);
    run([&] {
      jpeg_start_decompress(&info_);
      std::uint8_t* row = image.pixels.data();
      while (info_.output_scanline < info_.output_height) {
        JSAMPROW target = cmyk ? ink.data() : row;
        jpeg_read_scanlines(&info_, &target, 1);
        if (cmyk) rgb_of_cmyk(ink.data(), image.width, row);
        row += 3 * image.width;
      }
    });
    return image;
  }

 private:
  template <typename Step>
  void run(const Step& step) {
    if (setjmp(errors_.back) != 0) refuse_image("JPEG", name_, errors_.text.data());
    step();
  }

  std::string_view name_;
  jpeg_decompress_struct info_ = {};
  Errors errors_ = {};
  jpeg_progress_mgr progress_ = {};
};

}  // namespace

Image decode_jpeg(std::span<const std::byte> bytes, std::string_view name) {
  return Decoder(name).decode(bytes);
}

}  // namespace ecoformer::data
