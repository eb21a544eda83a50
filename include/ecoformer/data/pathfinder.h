// The Pathfinder task of Long Range Arena: does one dashed curve join the two discs? Generator, the
// benchmark's files, and its images as token sequences.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ecoformer/data/dataset.h"
#include "ecoformer/data/image_dataset.h"

namespace ecoformer::data {

/// The benchmark's difficulties: target snakes of 6, 9 and 14 paddles.
enum class PathfinderLevel { kEasy, kIntermediate, kHard };

/// Which of the benchmark's sets. Length, thickness and contrast of the paddles, the distance
/// between the snakes and so on follow from these two, as in the benchmark.
struct PathfinderOptions {
  /// Pixels a side: 32, 64 or 128 (the benchmark's Path-X).
  int size = 32;
  PathfinderLevel level = PathfinderLevel::kHard;
  /// Paddles of a target snake, 2 to 14, instead of the level's. Shorter ones than the benchmark's
  /// are a way into the task: what a model learns from them carries over.
  std::optional<int> contour_length = std::nullopt;
  /// How many distractor snakes to try, at most 1000; those that find no room are left out.
  /// nullopt: 20, 22 and 35 at 32, 64 and 128 pixels, divided by the distractors' length of 2, 3 or
  /// 4 paddles. The benchmark's own script may have tried 10 on hard images of 32 pixels, not 5.
  std::optional<int> distractors = std::nullopt;
};

/// A pixel by row and column.
struct PathfinderPoint {
  int y = 0;
  int x = 0;

  friend bool operator==(const PathfinderPoint&, const PathfinderPoint&) = default;
};

/// A stroke from `start` along `orientation`, in radians from +x towards +y, that is down.
struct PathfinderPaddle {
  PathfinderPoint start;
  double orientation = 0;
};

/// Paddles one behind the other. The snake's ends are the starts of its first and last paddle.
using PathfinderSnake = std::vector<PathfinderPaddle>;

/// What an image shows.
struct PathfinderScene {
  std::array<PathfinderSnake, 2> targets;
  std::vector<PathfinderSnake> distractors;
  /// Centres of the two discs: the first end of one target snake and, for label 1, its last end;
  /// for label 0 the last end of the other.
  std::array<PathfinderPoint, 2> markers;
  /// 1 where one snake joins the markers.
  std::int64_t label = 0;
  /// Pixels that snakes keep clear of around every paddle.
  int margin = 0;
};

/// An image and what it shows.
struct PathfinderImage {
  PathfinderScene scene;
  /// size x size intensities 0..255, row by row.
  std::vector<std::uint8_t> pixels;
};

/// Draws images as the benchmark's generator did in 2019 (drewlinsley/pathfinder at ab9c130, with
/// the parameters of the TFDS builder): the same distribution, not the same images, since its
/// authors fixed no seed. Labels are drawn evenly.
class PathfinderGenerator {
 public:
  /// Throws InputError for a size other than 32, 64 and 128 and for a contour length or distractors
  /// out of range.
  PathfinderGenerator(const PathfinderOptions& options, std::uint64_t seed);
  PathfinderGenerator(PathfinderGenerator&&) noexcept;
  ~PathfinderGenerator();

  /// Image `index` of the set, which depends on the constructor's arguments and `index` alone. May
  /// be called by several threads at a time.
  PathfinderImage draw(std::uint64_t index) const;

  /// The benchmark's metadata fields of an image, separated by spaces: folder, file, number, label,
  /// continuity, length of targets and of distractors, length, thickness and margin of paddles,
  /// number of contrasts.
  std::string describe(const std::string& folder, const std::string& file, std::int64_t number,
                       const PathfinderScene& scene) const;

 private:
  struct Parts;
  std::unique_ptr<const Parts> parts_;
};

/// What write_pathfinder wrote.
struct PathfinderSummary {
  /// Where: `<root>/pathfinder<size>/<level>`.
  std::filesystem::path folder;
  std::int64_t images = 0;
  std::int64_t positives = 0;  ///< Images of label 1.
  double mean_intensity = 0;   ///< Of all pixels, 0..255.
  double distractors = 0;      ///< An image, on the mean.
};

/// Writes images 0..count-1 in the benchmark's layout below `root`, 1000 a batch:
/// `pathfinder<size>/<level>/imgs/<batch>/sample_<i>.png`, 8 bit gray, and
/// `pathfinder<size>/<level>/metadata/<batch>.npy`, which in spite of its suffix is text, a line of
/// PathfinderGenerator::describe an image; <level> is curv_baseline for a contour length of 6,
/// curv_contour_length_<length> otherwise. A batch's metadata is written after its images, so that
/// what an interrupted run leaves can be read. Uses LibTorch's threads; any number gives the same
/// files. Calls `progress` every 100 images with the number written. Throws InputError for options
/// or a count out of range and where the set's folder exists and is not empty, Error where a file
/// cannot be written.
PathfinderSummary write_pathfinder(const std::filesystem::path& root,
                                   const PathfinderOptions& options, std::int64_t count,
                                   std::uint64_t seed,
                                   const std::function<void(std::int64_t)>& progress = {});

/// Labelled gray images of one size.
struct GrayImages {
  at::Tensor pixels;  ///< uint8 [N, H, W].
  at::Tensor labels;  ///< int64 [N], an index of class_names.
  std::vector<std::string> class_names;
};

struct GrayImageSplits {
  GrayImages train;
  GrayImages validation;
  GrayImages test;
  /// Files of no bytes, which were left out: the benchmark's release holds one.
  std::int64_t skipped = 0;
};

struct PathfinderReadOptions {
  /// Shares held out, rounded down to whole images.
  double validation_fraction = 0.1;
  double test_fraction = 0.1;
  /// Decides which images those are.
  std::uint64_t seed = 0;
};

/// Reads the set in `folder`, the one that holds `imgs` and `metadata`, generated here or released
/// by the benchmark: metadata as text or as a numpy array of strings. The images, in the order of
/// the batches' numbers and of the lines, are shuffled by `seed` and cut into train, validation and
/// test. Classes are `unconnected` and `connected`. Throws InputError naming file and line:
/// no metadata, fields missing, a label other than 0 and 1, an image listed twice, outside of
/// `folder`, missing, not an 8 bit gray PNG, above 1024 pixels a side or of another size than the
/// first; and for shares out of range or too few images for them.
GrayImageSplits read_pathfinder(const std::filesystem::path& folder,
                                const PathfinderReadOptions& options);

/// How intensities become token ids.
enum class PixelCoding {
  /// id = intensity + 1, vocabulary 257: every pixel is a token, black ones too. The default,
  /// because position in the image is what the task is about and padding must not collide with it.
  kEvery,
  /// id = intensity, vocabulary 256: Long Range Arena's coding, in which black has the id of
  /// padding. Black pixels keep their positions but are masked: nothing attends to them and the
  /// mean leaves them out. To reproduce recipes that were tuned on it.
  kMaskBlack,
};

/// Images as sequences of H W tokens, row by row: 4 bytes a pixel, so about 0.8 GB for 200,000
/// images of 32 x 32, and 13 GB for as many of 128 x 128.
SequenceSplits as_sequences(const GrayImageSplits& images, PixelCoding coding);

/// Images as pictures, gray repeated for red, green and blue. Shares the pixels.
ImageSplits as_images(const GrayImageSplits& images);

/// One PNG file's content as such a sequence. Throws InputError where it is no 8 bit gray PNG of at
/// most 1024 pixels a side.
std::vector<std::int32_t> encode_pixels(std::string_view png, PixelCoding coding);

}  // namespace ecoformer::data
