// Pathfinder sets on the disk, and their images as tensors and token sequences.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <numeric>
#include <span>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "data/gray_png.h"
#include "data/pathfinder_metadata.h"
#include "data/pathfinder_paddles.h"
#include "data/random.h"
#include "ecoformer/base/atomic_file.h"
#include "ecoformer/base/error.h"
#include "ecoformer/data/pathfinder.h"

namespace ecoformer::data {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kBatchImages = 1000;
constexpr std::int64_t kProgressImages = 100;
constexpr std::int64_t kMostImages = 10'000'000;
// Far above any list or image of the benchmark.
constexpr std::uintmax_t kLongestFile = std::uintmax_t{1} << 26;

std::string folder_of(int contour_length) {
  return contour_length == 6 ? "curv_baseline"
                             : fmt::format("curv_contour_length_{}", contour_length);
}

void create_folders(const fs::path& folder) {
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) {
    throw Error(fmt::format("write_pathfinder: expected to create the folder {}, got: {}",
                            folder.string(), failure.message()));
  }
}

std::string read_file(const fs::path& path) {
  std::error_code ignored;
  // Asked first, because opening a pipe would wait for its writer.
  const bool is_file = fs::is_regular_file(path, ignored);
  const std::uintmax_t size = is_file ? fs::file_size(path, ignored) : 0;
  std::ifstream file;
  if (is_file) file.open(path, std::ios::binary);
  if (!is_file || !file || size > kLongestFile) {
    throw InputError(
        fmt::format("read_pathfinder: expected a readable file of at most {} MiB, "
                    "got {}",
                    kLongestFile >> 20, path.string()));
  }
  std::string content(size, '\0');
  file.read(content.data(), static_cast<std::streamsize>(size));
  content.resize(static_cast<std::size_t>(file.gcount()));
  return content;
}

// The lists of a set, in the order of their batches' numbers.
std::vector<fs::path> list_metadata(const fs::path& folder) {
  std::vector<std::pair<std::uint64_t, fs::path>> batches;
  std::error_code failure;
  for (fs::directory_iterator entry(folder / "metadata", failure), end; !failure && entry != end;
       entry.increment(failure)) {
    const fs::path& path = entry->path();
    const std::string stem = path.stem().string();
    std::uint64_t number = 0;
    const auto [last, error] = std::from_chars(stem.data(), stem.data() + stem.size(), number);
    const bool is_number = error == std::errc{} && last == stem.data() + stem.size();
    if (path.extension() == ".npy" && is_number) batches.emplace_back(number, path);
  }
  if (batches.empty()) {
    throw InputError(
        fmt::format("read_pathfinder: expected metadata/<batch>.npy in {}, got none\n"
                    "hint: give the folder of one level, such as pathfinder32/{}",
                    folder.string(), folder_of(14)));
  }
  std::sort(batches.begin(), batches.end());
  std::vector<fs::path> paths;
  paths.reserve(batches.size());
  for (auto& [number, path] : batches) paths.push_back(std::move(path));
  return paths;
}

// All images of a set, one behind the other.
struct ImageList {
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> pixels;
  std::vector<std::int64_t> labels;
  std::int64_t skipped = 0;
};

void read_image(const fs::path& path, std::int64_t label, ImageList& list) {
  const std::string content = read_file(path);
  if (content.empty()) {
    ++list.skipped;
    return;
  }
  Grid<std::uint8_t> image;
  try {
    image = decode_gray_png(content);
  } catch (const InputError& error) {
    throw InputError(fmt::format("read_pathfinder: {}: {}", path.string(), error.what()));
  }
  if (list.labels.empty()) {
    list.height = image.rows;
    list.width = image.columns;
  }
  if (image.rows != list.height || image.columns != list.width) {
    throw InputError(fmt::format(
        "read_pathfinder: {}: expected {} x {} pixels as in the first image, got {} x {}",
        path.string(), list.height, list.width, image.rows, image.columns));
  }
  list.pixels.insert(list.pixels.end(), image.values.begin(), image.values.end());
  list.labels.push_back(label);
}

ImageList read_images(const fs::path& folder) {
  ImageList list;
  std::unordered_set<std::string> seen;
  for (const fs::path& path : list_metadata(folder)) {
    std::vector<PathfinderEntry> entries;
    try {
      entries = parse_pathfinder_metadata(read_file(path));
    } catch (const InputError& error) {
      throw InputError(fmt::format("read_pathfinder: {}: {}", path.string(), error.what()));
    }
    for (PathfinderEntry& entry : entries) {
      read_image(folder / entry.file, entry.label, list);
      const auto [listed, is_new] = seen.insert(std::move(entry.file));
      if (!is_new) {
        throw InputError(fmt::format("read_pathfinder: {}: expected every image once, got {} again",
                                     path.string(), *listed));
      }
    }
  }
  return list;
}

GrayImages select(const ImageList& list, std::span<const std::int64_t> indices) {
  const std::int64_t size = std::int64_t{list.height} * list.width;
  const std::int64_t count = std::ssize(indices);
  GrayImages images{.pixels = at::empty({count, list.height, list.width}, at::kByte),
                    .labels = at::empty({count}, at::kLong),
                    .class_names = {"unconnected", "connected"}};
  auto* pixel = images.pixels.mutable_data_ptr<std::uint8_t>();
  auto* label = images.labels.mutable_data_ptr<std::int64_t>();
  for (const std::int64_t index : indices) {
    pixel = std::copy_n(list.pixels.begin() + index * size, size, pixel);
    *label++ = list.labels[static_cast<std::size_t>(index)];
  }
  return images;
}

std::vector<std::int32_t> encode(std::span<const std::uint8_t> pixels, PixelCoding coding) {
  const std::int32_t first = coding == PixelCoding::kEvery ? 1 : 0;
  std::vector<std::int32_t> tokens;
  tokens.reserve(pixels.size());
  for (const std::uint8_t pixel : pixels) tokens.push_back(first + pixel);
  return tokens;
}

SequenceDataset as_sequences(const GrayImages& images, PixelCoding coding) {
  SequenceDataset dataset{.name = "pathfinder",
                          .class_names = images.class_names,
                          .vocabulary = coding == PixelCoding::kEvery ? 257 : 256,
                          .masked_tokens = coding == PixelCoding::kMaskBlack};
  const auto size = static_cast<std::size_t>(images.pixels.size(1) * images.pixels.size(2));
  const auto* pixel = images.pixels.const_data_ptr<std::uint8_t>();
  const auto* label = images.labels.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < images.labels.size(0); ++i, pixel += size) {
    dataset.examples.push_back({.tokens = encode({pixel, size}, coding), .label = label[i]});
  }
  return dataset;
}

ImageDataset as_images(const GrayImages& images) {
  const auto* const label = images.labels.const_data_ptr<std::int64_t>();
  return {.name = "pathfinder",
          .class_names = images.class_names,
          .labels = {label, label + images.labels.size(0)},
          .image = [pixels = images.pixels](std::int64_t index) {
            Image image{.height = pixels.size(1), .width = pixels.size(2)};
            const std::int64_t size = image.height * image.width;
            const auto* const gray = pixels.const_data_ptr<std::uint8_t>() + index * size;
            image.pixels.reserve(static_cast<std::size_t>(3 * size));
            for (std::int64_t i = 0; i < size; ++i)
              image.pixels.insert(image.pixels.end(), 3, gray[i]);
            return image;
          }};
}

}  // namespace

PathfinderSummary write_pathfinder(const fs::path& root, const PathfinderOptions& options,
                                   std::int64_t count, std::uint64_t seed,
                                   const std::function<void(std::int64_t)>& progress) {
  if (count < 1 || count > kMostImages) {
    throw InputError(
        fmt::format("write_pathfinder: expected a count in [1, {}], got {}", kMostImages, count));
  }
  const PathfinderGenerator generator(options, seed);
  PathfinderSummary summary;
  summary.folder = root / fmt::format("pathfinder{}", options.size) /
                   folder_of(parameters_of(options).contour_length);
  std::error_code ignored;
  if (fs::exists(summary.folder, ignored) && !fs::is_empty(summary.folder, ignored)) {
    throw InputError(fmt::format("write_pathfinder: expected a new or empty folder, got {}",
                                 summary.folder.string()));
  }
  create_folders(summary.folder / "metadata");
  double intensity = 0;
  double distractors = 0;
  while (summary.images < count) {
    const std::int64_t batch = summary.images / kBatchImages;
    const std::int64_t size = std::min(kBatchImages, count - summary.images);
    const std::string images = fmt::format("imgs/{}", batch);
    create_folders(summary.folder / images);
    std::vector<PathfinderScene> scenes(static_cast<std::size_t>(size));
    std::vector<std::int64_t> sums(scenes.size());
    const auto name = [](std::size_t i) { return fmt::format("sample_{}.png", i); };
    for (std::int64_t first = 0; first < size; first += kProgressImages) {
      const std::int64_t last = std::min(first + kProgressImages, size);
      at::parallel_for(first, last, 1, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          PathfinderImage image = generator.draw(static_cast<std::uint64_t>(summary.images) + i);
          write_gray_png(summary.folder / images / name(i), options.size, options.size,
                         image.pixels);
          sums[i] = std::accumulate(image.pixels.begin(), image.pixels.end(), std::int64_t{0});
          scenes[i] = std::move(image.scene);
        }
      });
      if (progress) progress(summary.images + last);
    }
    write_atomically(
        summary.folder / "metadata" / fmt::format("{}.npy", batch), [&](std::ostream& out) {
          for (std::size_t i = 0; i < scenes.size(); ++i) {
            out << generator.describe(images, name(i), static_cast<std::int64_t>(i), scenes[i])
                << '\n';
          }
        });
    for (const PathfinderScene& scene : scenes) {
      summary.positives += scene.label;
      distractors += static_cast<double>(scene.distractors.size());
    }
    intensity += static_cast<double>(std::accumulate(sums.begin(), sums.end(), std::int64_t{0}));
    summary.images += size;
  }
  summary.mean_intensity = intensity / (static_cast<double>(count) * options.size * options.size);
  summary.distractors = distractors / static_cast<double>(count);
  return summary;
}

GrayImageSplits read_pathfinder(const fs::path& folder, const PathfinderReadOptions& options) {
  const double held_out = options.validation_fraction + options.test_fraction;
  if (!(options.validation_fraction >= 0 && options.test_fraction >= 0 && held_out < 1)) {
    throw InputError(fmt::format(
        "read_pathfinder: expected shares >= 0 with a sum below 1, got {} validation and {} test",
        options.validation_fraction, options.test_fraction));
  }
  const ImageList list = read_images(folder);
  const std::int64_t count = std::ssize(list.labels);
  const auto share = [&](double fraction) {
    return static_cast<std::int64_t>(fraction * static_cast<double>(count));
  };
  const std::int64_t validation = share(options.validation_fraction);
  const std::int64_t test = share(options.test_fraction);
  if ((validation == 0 && options.validation_fraction > 0) ||
      (test == 0 && options.test_fraction > 0) || validation + test >= count) {
    throw InputError(
        fmt::format("read_pathfinder: expected enough images in {} for shares of {} validation "
                    "and {} test, got {}",
                    folder.string(), options.validation_fraction, options.test_fraction, count));
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  Engine engine(options.seed);
  shuffle(order, engine);
  const std::span<const std::int64_t> all(order);
  const auto held = static_cast<std::size_t>(validation + test);
  return {.train = select(list, all.first(all.size() - held)),
          .validation = select(list, all.last(held).first(static_cast<std::size_t>(validation))),
          .test = select(list, all.last(static_cast<std::size_t>(test))),
          .skipped = list.skipped};
}

SequenceSplits as_sequences(const GrayImageSplits& images, PixelCoding coding) {
  return {.train = as_sequences(images.train, coding),
          .validation = as_sequences(images.validation, coding),
          .test = as_sequences(images.test, coding)};
}

ImageSplits as_images(const GrayImageSplits& images) {
  return {.train = as_images(images.train),
          .validation = as_images(images.validation),
          .test = as_images(images.test)};
}

std::vector<std::int32_t> encode_pixels(std::string_view png, PixelCoding coding) {
  return encode(decode_gray_png(png).values, coding);
}

}  // namespace ecoformer::data
