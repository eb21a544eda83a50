// RandAugment's operations against Pillow, and the distributions of the random transforms.
#include "data/augment.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/expect_error.h"
#include "data/image_fixture.h"
#include "data/rand_augment.h"
#include "ecoformer/data/image_transforms.h"

namespace ecoformer::data {
namespace {

constexpr std::array<std::pair<Operation, const char*>, kOperations> kNames = {{
    {Operation::kAutoContrast, "auto_contrast"},
    {Operation::kEqualize, "equalize"},
    {Operation::kInvert, "invert"},
    {Operation::kRotate, "rotate"},
    {Operation::kPosterize, "posterize"},
    {Operation::kSolarize, "solarize"},
    {Operation::kSolarizeAdd, "solarize_add"},
    {Operation::kColor, "color"},
    {Operation::kContrast, "contrast"},
    {Operation::kBrightness, "brightness"},
    {Operation::kSharpness, "sharpness"},
    {Operation::kShearX, "shear_x"},
    {Operation::kShearY, "shear_y"},
    {Operation::kTranslateX, "translate_x"},
    {Operation::kTranslateY, "translate_y"},
}};

Image picture() {
  return pillow("decoded rgb.png");
}

Image uniform_image(std::int64_t height, std::int64_t width, std::uint8_t value) {
  return {.height = height,
          .width = width,
          .pixels = std::vector<std::uint8_t>(static_cast<std::size_t>(3 * height * width), value)};
}

// Five standard deviations of the share of n draws that succeed with probability p.
double five_sigma(double p, int n) {
  return 5 * std::sqrt(p * (1 - p) / n);
}

TEST(RandAugment, OperationsAreThoseOfPillow) {
  std::set<Operation> seen;
  for (const std::string& key : pillow_names()) {
    for (const auto& [operation, name] : kNames) {
      const std::string prefix = fmt::format("operation {} ", name);
      if (!key.starts_with(prefix)) continue;
      const double argument = std::stod(key.substr(prefix.size()));
      EXPECT_EQ(largest_difference(apply(operation, picture(), argument), pillow(key)), 0) << key;
      seen.insert(operation);
    }
  }
  EXPECT_EQ(seen.size(), std::size_t{kOperations});
}

TEST(RandAugment, FlatPicturesStayWhole) {
  const Image flat = uniform_image(4, 5, 90);
  for (const Operation operation : {Operation::kAutoContrast, Operation::kEqualize}) {
    EXPECT_EQ(apply(operation, flat, 0).pixels, flat.pixels);
  }
  // No size is too small for an operation.
  for (const auto& [operation, name] : kNames) {
    const Image one = apply(operation, uniform_image(1, 1, 90), argument_of(operation, 9, true));
    EXPECT_EQ(one.pixels.size(), 3U) << name;
  }
}

TEST(RandAugment, ArgumentsFollowTheLevel) {
  const auto expect = [](Operation operation, double at_nine, double negated, double at_ten) {
    EXPECT_DOUBLE_EQ(argument_of(operation, 9, false), at_nine);
    EXPECT_DOUBLE_EQ(argument_of(operation, 9, true), negated);
    EXPECT_DOUBLE_EQ(argument_of(operation, 10, false), at_ten);
  };
  expect(Operation::kInvert, 0, 0, 0);
  expect(Operation::kRotate, 27, -27, 30);
  expect(Operation::kPosterize, 1, 1, 0);
  expect(Operation::kSolarize, 26, 26, 0);  // 256 - int(230.4)
  expect(Operation::kSolarizeAdd, 99, 99, 110);
  for (const Operation operation :
       {Operation::kColor, Operation::kContrast, Operation::kBrightness, Operation::kSharpness}) {
    expect(operation, 1.81, 0.19, 1.9);
  }
  expect(Operation::kShearX, 0.27, -0.27, 0.3);
  expect(Operation::kTranslateY, 0.405, -0.405, 0.45);
}

TEST(RandAugment, LeavesAQuarterOfThePicturesAlone) {
  // Two operations, each with probability 1/2. On this picture each of the 15 changes something;
  // only Invert twice, 0.1 % of the draws, leaves it as it was.
  constexpr int kDraws = 4000;
  Engine engine(3);
  int same = 0;
  for (int i = 0; i < kDraws; ++i)
    same += rand_augment(picture(), engine).pixels == picture().pixels;
  EXPECT_NEAR(static_cast<double>(same) / kDraws, 0.25, five_sigma(0.25, kDraws));
}

TEST(Augment, DrawsFromOneEngineAlone) {
  std::array<std::vector<float>, 3> outputs;
  for (std::size_t i = 0; i < 3; ++i) {
    Engine engine(i == 2 ? 8 : 7);
    outputs[i].resize(3 * 48 * 48);
    augment(picture(), 48, engine, outputs[i]);
  }
  EXPECT_EQ(outputs[0], outputs[1]);
  EXPECT_NE(outputs[0], outputs[2]);
}

TEST(Augment, ResizedCropsHaveTheRecipesAreasAndPlaces) {
  // A horizontal ramp of slope 1: the columns of a crop tell where it began and how wide it was.
  Image ramp{.height = 200, .width = 200};
  for (int i = 0; i < 200 * 200; ++i) {
    const auto x = static_cast<std::uint8_t>(i % 200);
    const auto y = static_cast<std::uint8_t>(i / 200);
    ramp.pixels.insert(ramp.pixels.end(), {x, y, 0});
  }
  constexpr int kDraws = 2000;
  Engine engine(5);
  double area = 0;
  double centre = 0;
  for (int i = 0; i < kDraws; ++i) {
    const Image view = random_resized_crop(ramp, 40, engine);
    const auto side = [&](std::size_t from, std::size_t to) {
      // Outputs 4 and 36 lie 32/40 of the side apart, away from the edges' flattening.
      return (view.pixels[to] - view.pixels[from]) * 40.0 / 32;
    };
    const double width = side(4 * 3, 36 * 3);
    const double height = side(4 * 120 + 1, 36 * 120 + 1);
    // Aspects lie in [3/4, 4/3]; each side is known to within 40 / 32 levels.
    EXPECT_LE((width - 1.25) / (height + 1.25), 4.0 / 3 + 1e-9);
    EXPECT_GE((width + 1.25) / (height - 1.25), 3.0 / 4 - 1e-9);
    area += width * height / 40'000 / kDraws;
    centre += view.pixels[20 * 3] / 200.0 / kDraws;
  }
  // U(0.08, 1) has mean 0.54 and deviation 0.27. Areas up to 3/4 always fit and larger ones are
  // drawn again at times, so the mean lies between those of U(0.08, 0.75), 0.415, and U(0.08, 1).
  EXPECT_LE(area, 0.54 + 5 * 0.27 / std::sqrt(kDraws));
  EXPECT_GE(area, 0.415 - 5 * 0.27 / std::sqrt(kDraws));
  // Symmetric about the middle, 99.5 levels of 200; a deviation of at most half the width.
  EXPECT_NEAR(centre, 0.4975, 5 * 0.5 / std::sqrt(kDraws) / std::sqrt(3) + 0.005);
}

TEST(Augment, PicturesTooSmallOrThinForACropStillGiveOne) {
  Engine engine(1);
  EXPECT_EQ(random_resized_crop(uniform_image(1, 1, 9), 40, engine).pixels,
            uniform_image(40, 40, 9).pixels);
  EXPECT_EQ(random_resized_crop(uniform_image(1, 500, 9), 40, engine).pixels,
            uniform_image(40, 40, 9).pixels);
}

TEST(Augment, PaddedCropsMoveByFourPixelsAtMost) {
  Image dot = uniform_image(32, 32, 0);
  dot.pixels[(16 * 32 + 16) * 3] = 255;
  Engine engine(2);
  std::set<std::int64_t> places;
  for (int i = 0; i < 3000; ++i) {
    const Image view = random_padded_crop(dot, 32, engine);
    const auto found = std::find(view.pixels.begin(), view.pixels.end(), 255);
    ASSERT_NE(found, view.pixels.end());
    places.insert((found - view.pixels.begin()) / 3);
  }
  // All 9 x 9 places; one is missed with probability 81 exp(-3000 / 81) < 1e-14.
  EXPECT_EQ(places.size(), 81U);
  EXPECT_EQ(*places.begin(), 12 * 32 + 12);
  EXPECT_EQ(*places.rbegin(), 20 * 32 + 20);
  expect_input_error([&] { random_padded_crop(uniform_image(23, 32, 0), 32, engine); },
                     {"at least 24 x 24", "got 32 x 23"});
}

TEST(Augment, FlipsEveryRow) {
  const Image image{.height = 2,
                    .width = 3,
                    .pixels = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19}};
  EXPECT_EQ(
      flip_horizontally(image).pixels,
      (std::vector<std::uint8_t>{7, 8, 9, 4, 5, 6, 1, 2, 3, 17, 18, 19, 14, 15, 16, 11, 12, 13}));
}

TEST(Augment, ErasesARectangleOfNoise) {
  constexpr std::int64_t kSize = 32;
  constexpr int kDraws = 4000;
  constexpr float kKept = 100;
  Engine engine(4);
  int erased = 0;
  double sum = 0;
  double squares = 0;
  double elements = 0;
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> pixels(3 * kSize * kSize, kKept);
    random_erasing(pixels, kSize, engine);
    std::int64_t top = kSize, left = kSize, bottom = -1, right = -1, count = 0;
    for (std::int64_t j = 0; j < std::ssize(pixels); ++j) {
      const float value = pixels[static_cast<std::size_t>(j)];
      if (value == kKept) continue;
      const std::int64_t y = j / kSize % kSize;
      const std::int64_t x = j % kSize;
      top = std::min(top, y), bottom = std::max(bottom, y);
      left = std::min(left, x), right = std::max(right, x);
      ++count;
      sum += value;
      squares += double{value} * value;
    }
    if (count == 0) continue;
    ++erased;
    elements += static_cast<double>(count);
    const std::int64_t area = (bottom - top + 1) * (right - left + 1);
    ASSERT_EQ(count, 3 * area);
    // Sides are rounded: h <= sqrt(a r) + 1/2 and w likewise, their sum at most 1.6 kSize.
    EXPECT_LE(static_cast<double>(area), kSize * kSize / 3.0 + 0.8 * kSize + 0.25);
    EXPECT_GE(static_cast<double>(area), 0.02 * kSize * kSize - 0.8 * kSize);
  }
  EXPECT_NEAR(static_cast<double>(erased) / kDraws, 0.25, five_sigma(0.25, kDraws));
  // N(0, 1): the mean has deviation 1 / sqrt(n), the mean square sqrt(2 / n).
  EXPECT_NEAR(sum / elements, 0, 5 / std::sqrt(elements));
  EXPECT_NEAR(squares / elements, 1, 5 * std::sqrt(2 / elements));
}

}  // namespace
}  // namespace ecoformer::data
