// Pathfinder: what the generator draws, the benchmark's files byte by byte, bad files.
#include "ecoformer/data/pathfinder.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "data/expect_error.h"
#include "data/gray_png.h"
#include "data/pathfinder_metadata.h"
#include "data/pathfinder_paddles.h"
#include "data/pathfinder_raster.h"
#include "data/temp_folder.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/loader.h"

namespace ecoformer::data {
namespace {

constexpr PathfinderOptions kEasy32{.size = 32, .level = PathfinderLevel::kEasy};
constexpr PathfinderOptions kHard32{.size = 32, .level = PathfinderLevel::kHard};

double distance(PathfinderPoint a, PathfinderPoint b) {
  return std::hypot(a.y - b.y, a.x - b.x);
}

bool joins(const PathfinderSnake& snake, const PathfinderScene& scene) {
  return snake.front().start == scene.markers[0] && snake.back().start == scene.markers[1];
}

std::string line_of(const std::string& file, const std::string& label) {
  return "imgs/0 " + file + " 0 " + label + " 1.0 6 2 2 0.5 1 1\n";
}

// A set of black images, `count` lines.
std::filesystem::path write_set(const TempFolder& folder, int count) {
  std::string lines;
  std::filesystem::create_directories(folder.path() / "imgs/0");
  for (int i = 0; i < count; ++i) {
    const std::string name = "sample_" + std::to_string(i) + ".png";
    write_gray_png(folder.path() / "imgs/0" / name, 4, 3, std::vector<std::uint8_t>(12));
    lines += line_of(name, i % 2 == 0 ? "0" : "1");
  }
  return folder.write("metadata/0.npy", lines);
}

// Numpy's format 1 with the elements of one image.
std::string numpy_of(const std::string& type, const std::string& shape,
                     const std::vector<std::string>& fields, std::size_t characters,
                     std::size_t bytes_a_character) {
  const std::string header =
      "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  std::string content = "\x93NUMPY";
  content += '\1';
  content += '\0';
  content += static_cast<char>(header.size());
  content += '\0';
  content += header;
  for (const std::string& field : fields) {
    for (std::size_t i = 0; i < characters; ++i) {
      content += i < field.size() ? field[i] : '\0';
      content.append(bytes_a_character - 1, '\0');
    }
  }
  return content;
}

const std::vector<std::string> kFieldsOfOne{"imgs/0", "sample_0.png", "0", "1", "1.0", "6", "2",
                                            "2",      "0.5",          "1", "1"};

// Pillow 13's ImageDraw.line of width 2 on 9 x 9 pixels from (4, 4) to row 7, column 1, and its
// Lanczos reduction of that to 5 x 5.
TEST(Pathfinder, RasterIsPillows) {
  Grid<std::uint8_t> image(9, 9);
  draw_line(image, {4, 4}, {7, 1}, 2);
  const std::string expected =
      "........."
      "........."
      "........."
      "....#...."
      "...###..."
      "..###...."
      ".###....."
      "..#......"
      ".........";
  std::string found;
  for (const std::uint8_t pixel : image.values) found += pixel == 255 ? '#' : '.';
  EXPECT_EQ(found, expected);
  EXPECT_EQ(reduce_lanczos(image, 5).values,
            (std::vector<std::uint8_t>{0,  3, 0,  0,   0,  1, 0, 40, 0,  0, 0, 95, 246,
                                       44, 1, 66, 252, 96, 1, 3, 15, 61, 0, 1, 0}));
}

TEST(Pathfinder, ThinLinesReachBothEndsOneStepAtATime) {
  for (int y = -4; y <= 4; ++y) {
    for (int x = -4; x <= 4; ++x) {
      Grid<std::uint8_t> image(9, 9);
      draw_line(image, {4, 4}, {4 + y, 4 + x}, 1);
      EXPECT_EQ(image.at(4, 4), 255);
      EXPECT_EQ(image.at(4 + y, 4 + x), 255);
      EXPECT_EQ(std::count(image.values.begin(), image.values.end(), 255),
                1 + std::max(std::abs(y), std::abs(x)));
    }
  }
}

TEST(Pathfinder, EveryDirectionHasAShape) {
  for (const int size : {32, 64, 128}) {
    const PathfinderParameters parameters = parameters_of({.size = size});
    for (const int margin : parameters.margins) {
      const PaddleShapes shapes(parameters, margin);
      for (int i = 0; i <= 720; ++i) {
        const PaddleShape& shape = shapes.along((i - 360) * std::numbers::pi / 360);
        ASSERT_GT(shape.line.rows, 0);
        EXPECT_FALSE(shape.element.empty());
        const int centre = shape.mask.rows / 2;
        EXPECT_GE(shape.mask.at(centre, centre), shape.line.at(centre, centre));
      }
    }
  }
}

TEST(Pathfinder, ImagesDependOnSeedAndIndexOnly) {
  const PathfinderGenerator a(kEasy32, 1);
  const PathfinderGenerator b(kEasy32, 1);
  const PathfinderGenerator other(kEasy32, 2);
  const auto third = a.draw(3).pixels;
  EXPECT_NE(a.draw(4).pixels, third);
  EXPECT_EQ(b.draw(3).pixels, third);
  EXPECT_NE(other.draw(3).pixels, third);
}

TEST(Pathfinder, MarkersLieOnOneSnakeExactlyWhereTheLabelSaysSo) {
  constexpr int kImages = 400;
  const PathfinderGenerator generator(kEasy32, 11);
  int positives = 0;
  int first_origins = 0;
  for (std::uint64_t i = 0; i < kImages; ++i) {
    const PathfinderScene scene = generator.draw(i).scene;
    const auto& [first, second] = scene.targets;
    ASSERT_EQ(first.size(), 6U);
    ASSERT_EQ(second.size(), 6U);
    EXPECT_EQ(joins(first, scene) || joins(second, scene), scene.label == 1);
    EXPECT_TRUE(scene.markers[0] == first.front().start ||
                scene.markers[0] == second.front().start);
    EXPECT_TRUE(scene.markers[1] == first.back().start || scene.markers[1] == second.back().start);
    // The distance of the snakes' beginnings, up to rounding to pixels.
    EXPECT_NEAR(distance(first.front().start, second.front().start), 7, std::numbers::sqrt2 / 2);
    positives += scene.label == 1 ? 1 : 0;
    first_origins += scene.markers[0] == first.front().start ? 1 : 0;
    for (const PathfinderSnake& snake : scene.targets) {
      for (std::size_t k = 1; k < snake.size(); ++k) {
        // A head lies length + margin = 3 from its pivot, and the next pivot length + 2 margin = 4
        // from that in the same direction. Rounding moves each by less than sqrt 2. The first
        // paddle starts at its far end, a margin ahead of its pivot, which is rounded twice.
        const double bound =
            k == 1 ? 4 - 1 + 3 + 4 * std::numbers::sqrt2 : 4 - 3 + 3 + 3 * std::numbers::sqrt2;
        EXPECT_LT(distance(snake[k - 1].start, snake[k].start), bound);
      }
    }
  }
  // Five standard deviations of a fair coin: a fair generator fails once in 1.7 million seeds.
  const double bound = 5 * std::sqrt(kImages * 0.25);
  EXPECT_NEAR(positives, kImages / 2.0, bound);
  EXPECT_NEAR(first_origins, kImages / 2.0, bound);
}

TEST(Pathfinder, PaddlesShareNoPixelBeyondTheThreshold) {
  // Masks may meet up to a sum of 1.8. Asked of every distractor's second paddle against all
  // distractors before: first paddles keep clear in another way.
  const PathfinderGenerator generator(kEasy32, 12);
  const PathfinderParameters parameters = parameters_of(kEasy32);
  const PaddleShapes shapes(parameters, 1);
  for (std::uint64_t i = 0; i < 20; ++i) {
    const PathfinderScene scene = generator.draw(i).scene;
    Grid<std::uint8_t> occupied(32, 32);
    for (const PathfinderSnake& snake : scene.distractors) {
      ASSERT_EQ(snake.size(), 2U);
      int largest = 0;
      for_each_covered(shapes.along(snake[1].orientation).mask, snake[1].start, occupied,
                       [&](std::uint8_t there, std::uint8_t wanted) {
                         largest = std::max(largest, there + wanted);
                       });
      EXPECT_LT(largest, 1.8 * 255);
      for (const PathfinderPaddle& paddle : snake) {
        for_each_covered(
            shapes.along(paddle.orientation).mask, paddle.start, occupied,
            [](std::uint8_t& there, std::uint8_t wanted) { there = std::max(there, wanted); });
      }
    }
  }
}

TEST(Pathfinder, ImagesShowStrokesMarkersAndABlackGround) {
  const PathfinderGenerator generator(kEasy32, 13);
  for (std::uint64_t i = 0; i < 50; ++i) {
    const PathfinderImage image = generator.draw(i);
    ASSERT_EQ(image.pixels.size(), 32U * 32U);
    EXPECT_EQ(*std::min_element(image.pixels.begin(), image.pixels.end()), 0);
    EXPECT_EQ(*std::max_element(image.pixels.begin(), image.pixels.end()), 255);
    for (const PathfinderPoint marker : image.scene.markers) {
      // The brightest stroke has at most intensity 2, of which a marker's 1 is half. Its disc has a
      // diameter of 3.5 pixels, so that its centre is covered fully.
      EXPECT_GE(image.pixels[static_cast<std::size_t>(marker.y * 32 + marker.x)], 127);
    }
  }
}

TEST(Pathfinder, DistractorsFollowTheOptions) {
  const auto mean = [](const PathfinderOptions& options, int images) {
    const PathfinderGenerator generator(options, 5);
    std::size_t found = 0;
    for (int i = 0; i < images; ++i) {
      const PathfinderScene scene = generator.draw(static_cast<std::uint64_t>(i)).scene;
      for (const PathfinderSnake& snake : scene.distractors) {
        EXPECT_EQ(static_cast<int>(snake.size()), parameters_of(options).distractor_length);
      }
      found += scene.distractors.size();
    }
    return static_cast<double>(found) / images;
  };
  // At 32 pixels 20 / 2 of easy images, of which nearly all find room; none where none is wanted.
  EXPECT_EQ(parameters_of(kEasy32).distractors, 10);
  EXPECT_GT(mean(kEasy32, 50), 9);
  EXPECT_LE(mean(kEasy32, 50), 10);
  EXPECT_EQ(mean({.size = 32, .level = PathfinderLevel::kEasy, .distractors = 0}, 5), 0);
  // Far more than find room.
  EXPECT_LT(mean({.size = 32, .level = PathfinderLevel::kEasy, .distractors = 200}, 2), 60);
  EXPECT_EQ(parameters_of(kHard32).distractors, 5);
  EXPECT_EQ(parameters_of({.size = 64}).distractors, 5);
  EXPECT_EQ(parameters_of({.size = 128}).distractors, 8);
  EXPECT_EQ(parameters_of({.size = 128, .level = PathfinderLevel::kIntermediate}).distractors, 11);
}

TEST(Pathfinder, ContourLengthStandsInForTheLevel) {
  for (const int size : {32, 64, 128}) {
    for (const int length : {2, 3, 14}) {
      const PathfinderOptions options{.size = size, .contour_length = length, .distractors = 0};
      const PathfinderScene scene = PathfinderGenerator(options, 1).draw(0).scene;
      for (const PathfinderSnake& snake : scene.targets) {
        EXPECT_EQ(snake.size(), static_cast<std::size_t>(length));
      }
    }
  }
  // The level's own length is the level.
  const PathfinderOptions six{.contour_length = 6};
  EXPECT_EQ(parameters_of(six).distractors, parameters_of(kEasy32).distractors);
  EXPECT_EQ(PathfinderGenerator(six, 3).draw(5).pixels,
            PathfinderGenerator(kEasy32, 3).draw(5).pixels);
  const TempFolder folder;
  EXPECT_EQ(write_pathfinder(folder.path(), {.contour_length = 2}, 3, 0).folder,
            folder.path() / "pathfinder32/curv_contour_length_2");
  EXPECT_EQ(write_pathfinder(folder.path(), six, 3, 0).folder,
            folder.path() / "pathfinder32/curv_baseline");
}

TEST(Pathfinder, RefusesOptionsOutOfRange) {
  expect_input_error([] { PathfinderGenerator({.size = 33}, 0); }, {"32, 64 or 128", "got 33"});
  expect_input_error([] { PathfinderGenerator({.distractors = -1}, 0); }, {"got -1"});
  expect_input_error([] { PathfinderGenerator({.distractors = 1001}, 0); }, {"got 1001"});
  expect_input_error([] { PathfinderGenerator({.contour_length = 1}, 0); }, {"[2, 14]", "got 1"});
  expect_input_error([] { PathfinderGenerator({.contour_length = 15}, 0); }, {"got 15"});
  const TempFolder folder;
  for (const std::int64_t count : {-1L, 0L, 1L << 40}) {
    expect_input_error([&] { write_pathfinder(folder.path(), kEasy32, count, 0); }, {"count"});
  }
}

TEST(Pathfinder, FilesAreTheBenchmarksForAnyNumberOfThreads) {
  const TempFolder folder;
  const int before = torch::get_num_threads();
  std::vector<std::int64_t> calls;
  torch::set_num_threads(1);
  const PathfinderSummary one = write_pathfinder(folder.path() / "one", kEasy32, 120, 3,
                                                 [&](std::int64_t done) { calls.push_back(done); });
  torch::set_num_threads(4);
  const PathfinderSummary four = write_pathfinder(folder.path() / "four", kEasy32, 120, 3);
  torch::set_num_threads(before);

  EXPECT_EQ(calls, (std::vector<std::int64_t>{100, 120}));
  EXPECT_EQ(one.folder, folder.path() / "one/pathfinder32/curv_baseline");
  const std::string metadata = read_all(one.folder / "metadata/0.npy");
  EXPECT_EQ(read_all(four.folder / "metadata/0.npy"), metadata);
  for (int i = 0; i < 120; ++i) {
    const std::string name = "imgs/0/sample_" + std::to_string(i) + ".png";
    ASSERT_EQ(read_all(one.folder / name), read_all(four.folder / name)) << name;
  }

  const PathfinderGenerator generator(kEasy32, 3);
  const std::vector<PathfinderEntry> entries = parse_pathfinder_metadata(metadata);
  ASSERT_EQ(entries.size(), 120U);
  std::int64_t positives = 0;
  for (const PathfinderEntry& entry : entries) positives += entry.label;
  EXPECT_EQ(one.positives, positives);
  EXPECT_EQ(metadata.substr(0, metadata.find('\n') + 1),
            line_of("sample_0.png", std::to_string(generator.draw(0).scene.label)));
  EXPECT_EQ(decode_gray_png(read_all(one.folder / entries[7].file)).values,
            generator.draw(7).pixels);

  expect_input_error([&] { write_pathfinder(folder.path() / "one", kEasy32, 1, 3); },
                     {"new or empty folder", one.folder.string()});
  folder.write("file", "x");
  EXPECT_THROW(write_pathfinder(folder.path() / "file", kEasy32, 1, 3), Error);

  const GrayImageSplits images = read_pathfinder(one.folder, {});
  EXPECT_EQ(images.train.pixels.sizes(), (std::vector<std::int64_t>{96, 32, 32}));
  EXPECT_EQ(images.validation.labels.numel(), 12);
  EXPECT_EQ(images.test.labels.numel(), 12);
  EXPECT_EQ(images.skipped, 0);
  const std::int64_t read_positives =
      (images.train.labels.sum() + images.validation.labels.sum() + images.test.labels.sum())
          .item<std::int64_t>();
  EXPECT_EQ(read_positives, positives);
  // Every image once, in another order for another seed.
  const torch::Tensor all =
      torch::cat({images.train.pixels, images.validation.pixels, images.test.pixels});
  for (std::uint64_t i = 0; i < 120; ++i) {
    std::vector<std::uint8_t> pixels = generator.draw(i).pixels;
    const torch::Tensor drawn = torch::from_blob(pixels.data(), {1, 32, 32}, torch::kByte);
    EXPECT_EQ(all.eq(drawn).flatten(1).all(1).sum().item<std::int64_t>(), 1);
  }
  EXPECT_FALSE(read_pathfinder(one.folder, {.seed = 1}).test.pixels.equal(images.test.pixels));
  EXPECT_TRUE(read_pathfinder(one.folder, {}).test.pixels.equal(images.test.pixels));
}

TEST(Pathfinder, PixelsBecomeTokens) {
  GrayImages images{.pixels = torch::tensor({{{0, 7}, {255, 0}}, {{1, 0}, {0, 0}}}, torch::kByte),
                    .labels = torch::tensor({1, 0}, torch::kLong),
                    .class_names = {"unconnected", "connected"}};
  const GrayImageSplits splits{images, images, images, 0};
  const SequenceSplits every = as_sequences(splits, PixelCoding::kEvery);
  EXPECT_EQ(every.train.vocabulary, 257);
  EXPECT_EQ(every.train.examples[0].tokens, (std::vector<std::int32_t>{1, 8, 256, 1}));
  EXPECT_EQ(every.train.examples[0].label, 1);
  EXPECT_EQ(every.test.class_names, images.class_names);
  const SequenceSplits masked = as_sequences(splits, PixelCoding::kMaskBlack);
  EXPECT_EQ(masked.train.vocabulary, 256);
  EXPECT_EQ(masked.train.examples[0].tokens, (std::vector<std::int32_t>{0, 7, 255, 0}));

  // The loader keeps a black pixel's place and masks it.
  const LoaderOptions in_order{.batch_size = 2, .shuffle = false, .bucket = false, .workers = 0};
  SequenceLoader loader(masked.train, in_order);
  loader.start_epoch(0);
  const Batch batch = *loader.next();
  EXPECT_TRUE(batch.inputs.equal(torch::tensor({{0, 7, 255, 0}, {1, 0, 0, 0}}, torch::kLong)));
  EXPECT_TRUE(batch.mask.equal(torch::tensor({{0, 1, 1, 0}, {1, 0, 0, 0}}).to(torch::kBool)));
}

TEST(Pathfinder, PngsAreReadBackOrRefused) {
  const TempFolder folder;
  const auto path = folder.path() / "x.png";
  const std::vector<std::uint8_t> pixels{0, 1, 2, 128, 254, 255};
  write_gray_png(path, 3, 2, pixels);
  const std::string bytes = read_all(path);
  const Grid<std::uint8_t> image = decode_gray_png(bytes);
  EXPECT_EQ(image.rows, 2);
  EXPECT_EQ(image.columns, 3);
  EXPECT_EQ(image.values, pixels);
  EXPECT_EQ(encode_pixels(bytes, PixelCoding::kEvery),
            (std::vector<std::int32_t>{1, 2, 3, 129, 255, 256}));

  // Cut anywhere before the pixels end, a PNG is refused. The last 12 bytes are the end chunk and
  // the 4 before them a checksum.
  for (std::size_t size = 0; size < bytes.size() - 16; ++size) {
    EXPECT_THROW(decode_gray_png(std::string_view(bytes).substr(0, size)), InputError) << size;
  }
  std::string wide = bytes;
  wide[18] = '\x7f';  // Width 8,323,075; the header's checksum is wrong, too.
  EXPECT_THROW(decode_gray_png(wide), InputError);
  write_gray_png(path, 1025, 1, std::vector<std::uint8_t>(1025));
  expect_input_error([&] { decode_gray_png(read_all(path)); }, {"1025 x 1", "1024"});
  EXPECT_THROW(write_gray_png(folder.path() / "none/x.png", 3, 2, pixels), Error);
}

TEST(Pathfinder, MetadataIsTextOrNumpy) {
  const std::string line = line_of("sample_0.png", "1");
  for (const std::string& content :
       {line, line.substr(0, line.size() - 1), line.substr(0, line.size() - 1) + "\r\n",
        numpy_of("<U12", "(1, 11)", kFieldsOfOne, 12, 4),
        numpy_of("|S32", "(1, 11)", kFieldsOfOne, 32, 1)}) {
    const std::vector<PathfinderEntry> entries = parse_pathfinder_metadata(content);
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].file, "imgs/0/sample_0.png");
    EXPECT_EQ(entries[0].label, 1);
  }
  EXPECT_TRUE(parse_pathfinder_metadata("").empty());
}

TEST(Pathfinder, RefusesBadMetadata) {
  const auto refused = [](const std::string& content, const std::string& part) {
    expect_input_error([&] { parse_pathfinder_metadata(content); }, {part});
  };
  const std::string good = line_of("sample_0.png", "1");
  refused(good + "imgs/0 sample_1.png 1 1\n", "line 2: expected 11 fields, got 4");
  refused("\n", "line 1: expected 11 fields, got 0");
  refused(std::string(100'000, ' '), "got 0");
  refused(good.substr(0, good.size() - 1) + " 1\n", "got 12");
  refused(line_of("x.png", "2"), "line 1: expected a label of 0 or 1, got '2'");
  refused(line_of("x.png", "-1"), "got '-1'");
  refused(line_of("x.png", std::string(100, '1')), "...");
  refused(line_of("../../x.png", "1"), "in the set's folder, got 'imgs/0/../../x.png'");
  refused("/etc passwd 0 1 1.0 6 2 2 0.5 1 1\n", "in the set's folder");

  const std::string numpy = numpy_of("|S32", "(1, 11)", kFieldsOfOne, 32, 1);
  for (std::size_t size = 6; size < numpy.size(); ++size) {
    EXPECT_THROW(parse_pathfinder_metadata(numpy.substr(0, size)), InputError) << size;
  }
  refused(numpy + "x", "expected 1 rows");
  refused(numpy_of("<f8", "(1, 11)", kFieldsOfOne, 32, 1), "expected rows of 11 strings");
  refused(numpy_of("|S0", "(1, 11)", kFieldsOfOne, 32, 1), "expected rows of 11 strings");
  refused(numpy_of("|S32", "(11,)", kFieldsOfOne, 32, 1), "expected rows of 11 strings");
  refused(numpy_of("|S32", "(2, 11)", kFieldsOfOne, 32, 1), "expected 2 rows");
  // Sizes whose products wrap to the right number, or overflow on the way.
  refused(numpy_of("|S32", "(1676976733973595602, 11)", kFieldsOfOne, 32, 1), "rows");
  refused(numpy_of("<U18446744073709551615", "(1, 11)", kFieldsOfOne, 32, 1), "rows");
  refused(numpy_of("<U99999999999999999999999", "(1, 11)", kFieldsOfOne, 32, 1), "rows");
}

// numpy wrote the valid arrays.
TEST(Pathfinder, MetadataSurvivesItsFuzzCorpus) {
  int valid = 0;
  for (const auto& file : std::filesystem::directory_iterator(ECO_PATHFINDER_CORPUS)) {
    std::string content = read_all(file.path());
    const std::string name = file.path().filename().string();
    if (name.starts_with("valid_")) {
      const std::vector<PathfinderEntry> entries = parse_pathfinder_metadata(content);
      ASSERT_EQ(entries.size(), 2U) << name;
      EXPECT_EQ(entries[1].file, "imgs/0/sample_1.png") << name;
      EXPECT_EQ(entries[0].label, 1) << name;
      EXPECT_EQ(entries[1].label, 0) << name;
      ++valid;
    } else {
      EXPECT_THROW(parse_pathfinder_metadata(content), InputError) << name;
    }
    for (std::size_t bit = 0; bit < 8 * content.size(); ++bit) {
      const char mask = static_cast<char>(1 << bit % 8);
      content[bit / 8] = static_cast<char>(content[bit / 8] ^ mask);
      try {
        parse_pathfinder_metadata(content);
      } catch (const InputError&) {
        // Refused, or harmless; anything else fails the test.
      }
      content[bit / 8] = static_cast<char>(content[bit / 8] ^ mask);
    }
  }
  EXPECT_EQ(valid, 3);
}

TEST(Pathfinder, ReaderSkipsEmptyImagesAndRefusesOthers) {
  const TempFolder folder;
  const auto metadata = write_set(folder, 21);
  const auto image = folder.path() / "imgs/0/sample_5.png";
  folder.write("imgs/0/sample_5.png", "");
  const GrayImageSplits read = read_pathfinder(folder.path(), {});
  EXPECT_EQ(read.skipped, 1);
  EXPECT_EQ(read.train.labels.numel(), 16);
  EXPECT_EQ(read.validation.labels.numel(), 2);
  EXPECT_EQ(read.train.pixels.sizes(), (std::vector<std::int64_t>{16, 3, 4}));

  const auto refused = [&](const std::vector<std::string>& parts) {
    expect_input_error([&] { read_pathfinder(folder.path(), {}); }, {parts[0], parts[1]});
  };
  folder.write("imgs/0/sample_5.png", "GIF89a");
  refused({image.string(), "8 bit gray"});
  write_gray_png(image, 3, 4, std::vector<std::uint8_t>(12));
  refused({image.string(), "3 x 4 pixels as in the first image, got 4 x 3"});
  std::filesystem::remove(image);
  refused({image.string(), "readable file"});
  write_gray_png(image, 4, 3, std::vector<std::uint8_t>(12));
  const std::string lines = read_all(metadata);
  folder.write("metadata/0.npy", lines + line_of("sample_5.png", "0"));
  refused({metadata.string(), "imgs/0/sample_5.png again"});
  folder.write("metadata/0.npy", lines + "x\n");
  refused({metadata.string(), "line 22"});
  folder.write("metadata/0.npy", lines.substr(0, lines.find('\n') + 1));
  refused({"enough images", "got 1"});
  std::filesystem::rename(metadata, folder.path() / "metadata/list.txt");
  refused({"metadata/<batch>.npy", "hint"});
  expect_input_error([&] { read_pathfinder(folder.path(), {.test_fraction = 1}); }, {"shares"});
}

}  // namespace
}  // namespace ecoformer::data
