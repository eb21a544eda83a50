// The decoders behind decode_image, one a format, and what they share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "ecoformer/data/image.h"

namespace ecoformer::data {

/// An RGB image with room for its pixels. Throws InputError for none or more than kMostPixels.
Image make_image(std::int64_t height, std::int64_t width, std::string_view name);

/// Throws InputError saying that `name` does not decode as a `format`.
[[noreturn]] void refuse_image(std::string_view format, std::string_view name,
                               std::string_view reason);

Image decode_jpeg(std::span<const std::byte> bytes, std::string_view name);
Image decode_png(std::span<const std::byte> bytes, std::string_view name);

}  // namespace ecoformer::data
