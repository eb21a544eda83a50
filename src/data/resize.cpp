// PIL's antialiased bicubic resampling: separable, horizontal first, 8 bits in between, weights of
// 22 fractional bits (Pillow, src/libImaging/Resample.c). Not ATen's, which differs in the last bit
// and would start a team of threads under every worker.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ecoformer/base/error.h"
#include "ecoformer/data/image_transforms.h"

namespace ecoformer::data {
namespace {

constexpr int kFraction = 22;
constexpr std::int32_t kHalf = 1 << (kFraction - 1);

// For every output position, the inputs [first, first + weights.size()) that it is a sum of.
struct Taps {
  std::int64_t first = 0;
  std::vector<std::int32_t> weights = {};
};

double cubic(double x) {
  constexpr double kSharpness = -0.5;
  x = std::abs(x);
  if (x < 1) return ((kSharpness + 2) * x - (kSharpness + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * kSharpness;
  return 0;
}

// The taps of the outputs [begin, begin + count) of `outputs` that `inputs` are resized to.
std::vector<Taps> taps_of(std::int64_t inputs, std::int64_t outputs, std::int64_t begin,
                          std::int64_t count) {
  const double scale = static_cast<double>(inputs) / static_cast<double>(outputs);
  const double stretch = std::max(scale, 1.0);
  const double support = 2 * stretch;
  std::vector<Taps> all(static_cast<std::size_t>(count));
  std::vector<double> weights;
  for (std::int64_t i = 0; i < count; ++i) {
    const double centre = (static_cast<double>(begin + i) + 0.5) * scale;
    const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(centre - support + 0.5), 0);
    const auto last = std::min(static_cast<std::int64_t>(centre + support + 0.5), inputs);
    double sum = 0;
    weights.clear();
    for (std::int64_t x = first; x < last; ++x) {
      weights.push_back(cubic((static_cast<double>(x) - centre + 0.5) * (1 / stretch)));
      sum += weights.back();
    }
    Taps& taps = all[static_cast<std::size_t>(i)];
    taps.first = first;
    for (const double weight : weights) {
      const double scaled = weight / sum * (1 << kFraction);
      taps.weights.push_back(static_cast<std::int32_t>(scaled + (scaled < 0 ? -0.5 : 0.5)));
    }
  }
  return all;
}

std::uint8_t rounded(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kFraction, 0, 255));
}

// One row of `channels` interleaved samples.
template <int kChannels>
void resize_row(const std::uint8_t* row, const std::vector<Taps>& taps, std::uint8_t* output) {
  for (const Taps& tap : taps) {
    const std::uint8_t* in = row + tap.first * kChannels;
    std::int32_t sums[kChannels];
    std::fill_n(sums, kChannels, kHalf);
    for (const std::int32_t weight : tap.weights) {
      for (int c = 0; c < kChannels; ++c) sums[c] += weight * *in++;
    }
    for (const std::int32_t sum : sums) *output++ = rounded(sum);
  }
}

}  // namespace

Image resize_bicubic(const Image& image, std::int64_t height, std::int64_t width,
                     const Box& window) {
  const bool inside = window.top >= 0 && window.left >= 0 && window.height > 0 &&
                      window.width > 0 && window.height <= height - window.top &&
                      window.width <= width - window.left;
  if (!inside || window.height > kMostPixels / window.width) {
    throw InputError(
        fmt::format("resize_bicubic: expected a window inside [{}, {}], got [{}, {}] at ({}, {})",
                    height, width, window.height, window.width, window.top, window.left));
  }
  const std::vector<Taps> columns = taps_of(image.width, width, window.left, window.width);
  const std::vector<Taps> rows = taps_of(image.height, height, window.top, window.height);
  // Only the rows that the second pass reads.
  const std::int64_t first = rows.front().first;
  const std::int64_t last = rows.back().first + std::ssize(rows.back().weights);
  const std::int64_t pitch = window.width * image.channels;
  std::vector<std::uint8_t> narrow(static_cast<std::size_t>((last - first) * pitch));
  for (std::int64_t y = first; y < last; ++y) {
    const std::uint8_t* in = image.pixels.data() + y * image.width * image.channels;
    std::uint8_t* out = narrow.data() + (y - first) * pitch;
    if (image.channels == 3) {
      resize_row<3>(in, columns, out);
    } else {
      resize_row<1>(in, columns, out);
    }
  }
  Image result{
      .height = window.height,
      .width = window.width,
      .channels = image.channels,
      .pixels = std::vector<std::uint8_t>(static_cast<std::size_t>(window.height * pitch))};
  std::vector<std::int32_t> sums(static_cast<std::size_t>(pitch));
  std::uint8_t* out = result.pixels.data();
  for (const Taps& tap : rows) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const std::uint8_t* in = narrow.data() + (tap.first - first) * pitch;
    for (const std::int32_t weight : tap.weights) {
      for (std::int32_t& sum : sums) sum += weight * *in++;
    }
    for (const std::int32_t sum : sums) *out++ = rounded(sum);
  }
  return result;
}

Image resize_bicubic(const Image& image, std::int64_t height, std::int64_t width) {
  return resize_bicubic(image, height, width, {.height = height, .width = width});
}

}  // namespace ecoformer::data
