// PNG through libpng. libpng reports errors by a function that must not return; it jumps back into
// Decoder::run, over frames that hold nothing with a destructor.
#include <png.h>

#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "data/codecs.h"

namespace ecoformer::data {
namespace {

struct Source {
  std::span<const std::byte> rest;
  std::jmp_buf back;
  std::array<char, 200> text;
};

[[noreturn]] void fail(png_structp png, png_const_charp message) {
  auto* const source = static_cast<Source*>(png_get_error_ptr(png));
  std::snprintf(source->text.data(), source->text.size(), "%s", message);
  std::longjmp(source->back, 1);
}

void ignore(png_structp /*png*/, png_const_charp /*message*/) {}

void read(png_structp png, png_bytep target, std::size_t size) {
  auto* const source = static_cast<Source*>(png_get_io_ptr(png));
  if (size > source->rest.size()) png_error(png, "premature end of file");
  std::memcpy(target, source->rest.data(), size);
  source->rest = source->rest.subspan(size);
}

class Decoder {
 public:
  Decoder(std::span<const std::byte> bytes, std::string_view name)
      : name_(name), source_{.rest = bytes, .back = {}, .text = {}} {}
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  Image decode() {
    run([this] {
      png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source_, fail, ignore);
      info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    });
    if (info_ == nullptr) refuse_image("PNG", name_, "out of memory");
    run([this] {
      png_set_read_fn(png_, &source_, read);
      png_read_info(png_, info_);
    });
    Image image =
        make_image(png_get_image_height(png_, info_), png_get_image_width(png_, info_), name_);
    std::vector<png_bytep> rows;
    rows.reserve(static_cast<std::size_t>(image.height));
    for (std::int64_t y = 0; y < image.height; ++y) {
      rows.push_back(image.pixels.data() + y * image.width * 3);
    }
    run([&] {
      png_set_palette_to_rgb(png_);
      png_set_expand_gray_1_2_4_to_8(png_);
      png_set_strip_16(png_);
      png_set_strip_alpha(png_);
      png_set_gray_to_rgb(png_);
      png_read_update_info(png_, info_);
      if (png_get_rowbytes(png_, info_) != static_cast<std::size_t>(3 * image.width)) {
        png_error(png_, "rows of an unexpected size");
      }
      png_read_image(png_, rows.data());
    });
    return image;
  }

 private:
  template <typename Step>
  void run(const Step& step) {
    if (setjmp(source_.back) != 0) refuse_image("PNG", name_, source_.text.data());
    step();
  }

  std::string_view name_;
  Source source_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

Image decode_png(std::span<const std::byte> bytes, std::string_view name) {
  return Decoder(bytes, name).decode();
}

}  // namespace ecoformer::data
