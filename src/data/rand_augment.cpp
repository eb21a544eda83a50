// The operations of RandAugment on bytes, with PIL's rounding throughout: truncation where PIL
// truncates, float where PIL computes in float.
#include "data/rand_augment.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <utility>

namespace ecoformer::data {
namespace {

using Lookup = std::array<std::uint8_t, 256>;
using Histogram = std::array<std::int64_t, 256>;

constexpr std::array<std::uint8_t, 3> kFill = {124, 116, 104};

template <typename Function>
Lookup lookup_of(const Function& function) {
  Lookup lookup;
  for (int i = 0; i < 256; ++i) {
    lookup[static_cast<std::size_t>(i)] =
        static_cast<std::uint8_t>(std::clamp(function(i), 0, 255));
  }
  return lookup;
}

void map_channel(Image& image, std::size_t channel, const Lookup& lookup) {
  for (std::size_t i = channel; i < image.pixels.size(); i += 3) {
    image.pixels[i] = lookup[image.pixels[i]];
  }
}

template <typename Function>
Image map(Image image, const Function& function) {
  const Lookup lookup = lookup_of(function);
  for (std::uint8_t& sample : image.pixels) sample = lookup[sample];
  return image;
}

// Each channel through the lookup that `make` gives for its histogram.
template <typename Make>
Image map_by_histogram(Image image, const Make& make) {
  for (std::size_t c = 0; c < 3; ++c) {
    Histogram histogram = {};
    for (std::size_t i = c; i < image.pixels.size(); i += 3) ++histogram[image.pixels[i]];
    map_channel(image, c, make(histogram));
  }
  return image;
}

Lookup stretch(const Histogram& histogram) {
  int low = 0;
  int high = 255;
  while (low < 255 && histogram[static_cast<std::size_t>(low)] == 0) ++low;
  while (high > 0 && histogram[static_cast<std::size_t>(high)] == 0) --high;
  if (high <= low) return lookup_of([](int i) { return i; });
  const double scale = 255.0 / (high - low);
  const double offset = -low * scale;
  return lookup_of([&](int i) { return static_cast<int>(i * scale + offset); });
}

Lookup flatten(const Histogram& histogram) {
  std::int64_t total = 0;
  std::int64_t last = 0;
  for (const std::int64_t count : histogram) {
    total += count;
    if (count > 0) last = count;
  }
  const std::int64_t step = (total - last) / 255;
  if (step == 0) return lookup_of([](int i) { return i; });
  std::int64_t sum = step / 2;
  return lookup_of([&](int i) {
    const std::int64_t value = sum / step;
    sum += histogram[static_cast<std::size_t>(i)];
    return static_cast<int>(std::min<std::int64_t>(value, 255));
  });
}

std::uint8_t luma(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >>
                                   16);
}

// `degenerate` + factor (image - degenerate), where `degenerate(i)` is the sample at index i.
template <typename Degenerate>
Image blend(const Image& image, double factor, const Degenerate& degenerate) {
  Image result = image;
  const auto share = static_cast<float>(factor);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    const int from = degenerate(i);
    const float value =
        static_cast<float>(from) + share * static_cast<float>(image.pixels[i] - from);
    result.pixels[i] = static_cast<std::uint8_t>(std::clamp(value, 0.0F, 255.0F));
  }
  return result;
}

Image change_contrast(const Image& image, double factor) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) sum += luma(&image.pixels[i]);
  const auto mean = static_cast<int>(
      static_cast<double>(sum) / static_cast<double>(image.height * image.width) + 0.5);
  return blend(image, factor, [mean](std::size_t) { return mean; });
}

// The degenerate picture is smoothed by (1 1 1, 1 5 1, 1 1 1) / 13, its border kept.
Image change_sharpness(const Image& image, double factor) {
  const std::int64_t pitch = 3 * image.width;
  return blend(image, factor, [&](std::size_t index) {
    const auto i = static_cast<std::int64_t>(index);
    const std::uint8_t* const centre = image.pixels.data() + i;
    const std::int64_t y = i / pitch;
    const std::int64_t x = i % pitch / 3;
    if (y == 0 || x == 0 || y == image.height - 1 || x == image.width - 1) return int{*centre};
    int sum = 4 * *centre;
    for (const std::int64_t row : {-pitch, std::int64_t{0}, pitch}) {
      sum += centre[row - 3] + centre[row] + centre[row + 3];
    }
    return (2 * sum + 13) / 26;
  });
}

// PIL's bicubic kernel of transforms, which is sharper than the one of its resize.
double cubic(double a, double b, double c, double d, double t) {
  return b + t * (c - a + t * (2 * (a - b) + c - d + t * (b - a - c + d)));
}

// Output (x, y) shows the input at (m0 x + m1 y + m2, m3 x + m4 y + m5), of pixel centres.
Image transform(const Image& image, const std::array<double, 6>& m) {
  Image result = image;
  const std::int64_t width = image.width;
  const std::int64_t height = image.height;
  std::uint8_t* out = result.pixels.data();
  for (std::int64_t row = 0; row < height; ++row) {
    for (std::int64_t column = 0; column < width; ++column, out += 3) {
      const double x = static_cast<double>(column) + 0.5;
      const double y = static_cast<double>(row) + 0.5;
      const double source_x = m[0] * x + m[1] * y + m[2];
      const double source_y = m[3] * x + m[4] * y + m[5];
      if (source_x < 0 || source_x >= static_cast<double>(width) || source_y < 0 ||
          source_y >= static_cast<double>(height)) {
        std::copy(kFill.begin(), kFill.end(), out);
        continue;
      }
      const double left = std::floor(source_x - 0.5);
      const double top = std::floor(source_y - 0.5);
      std::array<std::int64_t, 4> columns;
      std::array<const std::uint8_t*, 4> rows;
      for (std::size_t k = 0; k < 4; ++k) {
        const std::int64_t offset = static_cast<std::int64_t>(k) - 1;
        columns[k] =
            3 * std::clamp(static_cast<std::int64_t>(left) + offset, std::int64_t{0}, width - 1);
        rows[k] = image.pixels.data() + 3 * width *
                                            std::clamp(static_cast<std::int64_t>(top) + offset,
                                                       std::int64_t{0}, height - 1);
      }
      for (std::size_t c = 0; c < 3; ++c) {
        std::array<double, 4> v;
        for (std::size_t k = 0; k < 4; ++k) {
          const std::uint8_t* const in = rows[k] + c;
          v[k] = cubic(in[columns[0]], in[columns[1]], in[columns[2]], in[columns[3]],
                       source_x - 0.5 - left);
        }
        const double value = cubic(v[0], v[1], v[2], v[3], source_y - 0.5 - top);
        out[c] = static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0));
      }
    }
  }
  return result;
}

Image rotate(const Image& image, double degrees) {
  const double angle = -degrees * std::numbers::pi / 180;
  const double cosine = std::cos(angle);
  const double sine = std::sin(angle);
  const double x = static_cast<double>(image.width) / 2;
  const double y = static_cast<double>(image.height) / 2;
  return transform(image, {cosine, sine, x - cosine * x - sine * y,  //
                           -sine, cosine, y + sine * x - cosine * y});
}

}  // namespace

double argument_of(Operation operation, double level, bool negate) {
  const double share = level / 10;
  const double sign = negate ? -1 : 1;
  switch (operation) {
    case Operation::kAutoContrast:
    case Operation::kEqualize:
    case Operation::kInvert:
      return 0;
    case Operation::kRotate:
      return sign * 30 * share;
    case Operation::kPosterize:
      return 4 - std::trunc(4 * share);
    case Operation::kSolarize:
      return 256 - std::trunc(256 * share);
    case Operation::kSolarizeAdd:
      return std::trunc(110 * share);
    case Operation::kColor:
    case Operation::kContrast:
    case Operation::kBrightness:
    case Operation::kSharpness:
      return 1 + sign * 0.9 * share;
    case Operation::kShearX:
    case Operation::kShearY:
      return sign * 0.3 * share;
    case Operation::kTranslateX:
    case Operation::kTranslateY:
      return sign * 0.45 * share;
  }
  return 0;
}

Image apply(Operation operation, const Image& image, double argument) {
  switch (operation) {
    case Operation::kAutoContrast:
      return map_by_histogram(image, stretch);
    case Operation::kEqualize:
      return map_by_histogram(image, flatten);
    case Operation::kInvert:
      return map(image, [](int i) { return 255 - i; });
    case Operation::kRotate:
      return rotate(image, argument);
    case Operation::kPosterize:
      return map(image, [&](int i) { return i & (0xFF00 >> static_cast<int>(argument)); });
    case Operation::kSolarize:
      return map(image, [&](int i) { return i < argument ? i : 255 - i; });
    case Operation::kSolarizeAdd:
      return map(image, [&](int i) { return i < 128 ? i + static_cast<int>(argument) : i; });
    case Operation::kColor:
      return blend(image, argument,
                   [&](std::size_t i) { return int{luma(&image.pixels[i - i % 3])}; });
    case Operation::kContrast:
      return change_contrast(image, argument);
    case Operation::kBrightness:
      return blend(image, argument, [](std::size_t) { return 0; });
    case Operation::kSharpness:
      return change_sharpness(image, argument);
    case Operation::kShearX:
      return transform(image, {1, argument, 0, 0, 1, 0});
    case Operation::kShearY:
      return transform(image, {1, 0, 0, argument, 1, 0});
    case Operation::kTranslateX:
      return transform(image, {1, 0, argument * static_cast<double>(image.width), 0, 1, 0});
    case Operation::kTranslateY:
      return transform(image, {1, 0, 0, 0, 1, argument * static_cast<double>(image.height)});
  }
  return image;
}

Image rand_augment(Image image, Engine& engine) {
  for (int layer = 0; layer < 2; ++layer) {
    const auto operation = static_cast<Operation>(uniform_below(engine, kOperations));
    const bool skip = uniform_unit(engine) < 0.5;
    const double level = std::clamp(9 + 0.5 * normal_pair(engine).first, 0.0, 10.0);
    const bool negate = uniform_unit(engine) < 0.5;
    if (!skip) image = apply(operation, image, argument_of(operation, level, negate));
  }
  return image;
}

}  // namespace ecoformer::data
