// Resizing, the evaluation views and normalisation, bit for bit as Pillow and the authors' code.
#include "ecoformer/data/image_transforms.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "data/expect_error.h"
#include "data/image_fixture.h"

namespace ecoformer::data {
namespace {

Image picture() {
  return pillow("decoded rgb.png");
}

// Every pixel tells its place: (row, column, 0).
Image coordinates(std::int64_t height, std::int64_t width) {
  Image image{.height = height, .width = width};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      image.pixels.insert(image.pixels.end(),
                          {static_cast<std::uint8_t>(y), static_cast<std::uint8_t>(x), 0});
    }
  }
  return image;
}

TEST(ImageTransforms, ResizesAsPillowDoes) {
  const std::pair<int, int> sizes[] = {{21, 28}, {9, 13}, {40, 31}, {5, 60}};
  for (const auto& [height, width] : sizes) {
    const Image expected = pillow(fmt::format("resized {} {}", height, width));
    EXPECT_EQ(largest_difference(resize_bicubic(picture(), height, width), expected), 0)
        << height << " x " << width;
  }
}

TEST(ImageTransforms, AWindowIsAPartOfTheWhole) {
  const Image whole = resize_bicubic(picture(), 40, 31);
  for (const Box& box :
       {Box{0, 0, 40, 31}, Box{3, 5, 7, 9}, Box{39, 30, 1, 1}, Box{0, 12, 40, 1}}) {
    EXPECT_EQ(largest_difference(resize_bicubic(picture(), 40, 31, box), crop(whole, box)), 0);
  }
  for (const Box& box : {Box{0, 0, 41, 31}, Box{0, 0, 40, 32}, Box{-1, 0, 2, 2}, Box{0, 0, 0, 5}}) {
    expect_input_error([&] { resize_bicubic(picture(), 40, 31, box); },
                       {"a window inside [40, 31]"});
  }
}

TEST(ImageTransforms, ResizesGrayAsItsChannels) {
  const Image rgb = pillow("decoded gray.png");
  Image gray{.height = rgb.height, .width = rgb.width, .channels = 1};
  for (std::size_t i = 0; i < rgb.pixels.size(); i += 3) gray.pixels.push_back(rgb.pixels[i]);
  const Image expected = resize_bicubic(rgb, 10, 50);
  const Image found = resize_bicubic(gray, 10, 50);
  ASSERT_EQ(found.pixels.size(), 500U);
  for (std::size_t i = 0; i < 500; ++i) EXPECT_EQ(found.pixels[i], expected.pixels[3 * i]);
}

TEST(ImageTransforms, EvaluationViewsAreTheAuthorsAndTimms) {
  EXPECT_EQ(largest_difference(evaluation_view(picture(), 36), pillow("view authors")), 0);
  EXPECT_EQ(largest_difference(evaluation_view(picture(), 36, EvaluationCrop::kTimm),
                               pillow("view timm")),
            0);
  Image upright{.height = 28, .width = 21};  // Counterclockwise by 90 degrees.
  const Image image = picture();
  for (std::int64_t y = 0; y < 28; ++y) {
    for (std::int64_t x = 0; x < 21; ++x) {
      const auto* const pixel = &image.pixels[static_cast<std::size_t>((x * 28 + 27 - y) * 3)];
      upright.pixels.insert(upright.pixels.end(), pixel, pixel + 3);
    }
  }
  EXPECT_EQ(largest_difference(evaluation_view(upright, 36), pillow("view upright")), 0);
}

TEST(ImageTransforms, EvaluationCropIsCentredWithOffsetsRoundedHalfToEven) {
  // At 224 the authors' shorter side is 256 and timm's 248, so pictures of those sizes are cut
  // only.
  const auto offsets = [](std::int64_t height, std::int64_t width, EvaluationCrop crop) {
    const Image view = evaluation_view(coordinates(height, width), 224, crop);
    return std::pair<int, int>(view.pixels[0], view.pixels[1]);
  };
  EXPECT_EQ(offsets(256, 256, EvaluationCrop::kAuthors), std::pair(16, 16));
  EXPECT_EQ(offsets(248, 248, EvaluationCrop::kTimm), std::pair(12, 12));
  EXPECT_EQ(offsets(256, 259, EvaluationCrop::kAuthors), std::pair(16, 18));  // 17.5
  EXPECT_EQ(offsets(257, 256, EvaluationCrop::kAuthors), std::pair(16, 16));  // 16.5
  EXPECT_EQ(offsets(248, 249, EvaluationCrop::kTimm), std::pair(12, 12));     // 12.5
  EXPECT_EQ(offsets(251, 248, EvaluationCrop::kTimm), std::pair(14, 12));     // 13.5
}

TEST(ImageTransforms, ExtremeShapesNeedNoMemoryBeyondTheView) {
  Image line{.height = 1, .width = 60'000, .pixels = std::vector<std::uint8_t>(180'000, 77)};
  // Resized whole it would be 256 x 15,360,000.
  const Image view = evaluation_view(line, 224);
  EXPECT_EQ(view.pixels, std::vector<std::uint8_t>(3 * 224 * 224, 77));
}

TEST(ImageTransforms, CifarSizesAreNotResized) {
  const Image image = coordinates(32, 32);
  EXPECT_EQ(evaluation_view(image, 32).pixels, image.pixels);
  expect_input_error([] { evaluation_view(coordinates(32, 33), 32); },
                     {"expected a picture of 32 x 32", "got 33 x 32", "above 32"});
}

TEST(ImageTransforms, CropTakesTheBox) {
  const Image image = coordinates(5, 6);
  const Image part = crop(image, {.top = 1, .left = 2, .height = 2, .width = 3});
  EXPECT_EQ(part.height, 2);
  EXPECT_EQ(part.width, 3);
  EXPECT_EQ(part.pixels,
            (std::vector<std::uint8_t>{1, 2, 0, 1, 3, 0, 1, 4, 0, 2, 2, 0, 2, 3, 0, 2, 4, 0}));
  expect_input_error([&] { crop(image, {0, 4, 1, 3}); }, {"a box inside [5, 6]"});
  expect_input_error([&] { crop(image, {0, 0, 0, 3}); }, {"a box inside [5, 6]"});
}

TEST(ImageTransforms, NormalizesByImageNetsMeanAndDeviation) {
  const Image image = picture();
  std::vector<float> output(image.pixels.size());
  normalize(image, output);
  // The operations of torchvision's ToTensor and Normalize, in their order: the same roundings.
  const float mean[] = {0.485F, 0.456F, 0.406F};
  const float deviation[] = {0.229F, 0.224F, 0.225F};
  constexpr std::size_t kArea = 21 * 28;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const std::size_t c = i / kArea;
    const float value = static_cast<float>(image.pixels[i % kArea * 3 + c]) / 255.0F;
    ASSERT_EQ(output[i], (value - mean[c]) / deviation[c]);
  }
  output.pop_back();
  expect_input_error([&] { normalize(image, output); }, {"output of 1764 elements", "1763"});
}

}  // namespace
}  // namespace ecoformer::data
