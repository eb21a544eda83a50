// Parameters, angles, and the patches of single paddles.
#include "data/pathfinder_paddles.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <numbers>

#include "data/pathfinder_raster.h"
#include "ecoformer/base/error.h"

namespace ecoformer::data {
namespace {

constexpr int kMostDistractors = 1000;
constexpr int kShortestContour = 2;
constexpr int kLongestContour = 14;

// Of one size, with the paddles that all distractors together would have.
struct SizeParameters {
  PathfinderParameters parameters;
  int distractor_paddles = 0;
};

SizeParameters parameters_of_size(int size) {
  switch (size) {
    case 32:
      return {.parameters = {.size = 32,
                             .padding = 1,
                             .paddle_length = 2,
                             .paddle_thickness = 0.5,
                             .margins = {1},
                             .seed_distance = 7,
                             .marker_radius = 1.5,
                             .continuity = 1.0,
                             .target_contrast = 1.5,
                             .distractor_contrast = 2},
              .distractor_paddles = 20};
    case 64:
      return {.parameters = {.size = 64,
                             .padding = 1,
                             .paddle_length = 5,
                             .paddle_thickness = 1,
                             .margins = {1},
                             .seed_distance = 12,
                             .marker_radius = 2.5,
                             .continuity = 1.8,
                             .target_contrast = 0.8,
                             .distractor_contrast = 0.8},
              .distractor_paddles = 22};
    case 128:
      return {.parameters = {.size = 128,
                             .padding = 1,
                             .paddle_length = 5,
                             .paddle_thickness = 1.5,
                             .margins = {2, 3},
                             .seed_distance = 20,
                             .marker_radius = 3,
                             .continuity = 1.8,
                             .target_contrast = 0.9,
                             .distractor_contrast = 0.9},
              .distractor_paddles = 35};
    default:
      throw InputError(
          fmt::format("pathfinder: expected a size of 32, 64 or 128 pixels, got {}", size));
  }
}

int contour_length_of(PathfinderLevel level) {
  switch (level) {
    case PathfinderLevel::kEasy:
      return 6;
    case PathfinderLevel::kIntermediate:
      return 9;
    case PathfinderLevel::kHard:
      break;
  }
  return 14;
}

// Whether the end of a stroke can be rounded up to this offset: the circle of ends passes through
// the square that is.
bool is_stroke_end(PathfinderPoint end, int length) {
  const auto near = [](int v) { return v > 0 ? v - 1 : std::abs(v); };
  const auto far = [](int v) { return v > 0 ? v : std::abs(v - 1); };
  return std::hypot(near(end.y), near(end.x)) <= length &&
         std::hypot(far(end.y), far(end.x)) >= length;
}

}  // namespace

PathfinderParameters parameters_of(const PathfinderOptions& options) {
  auto [parameters, distractor_paddles] = parameters_of_size(options.size);
  parameters.contour_length = options.contour_length.value_or(contour_length_of(options.level));
  if (parameters.contour_length < kShortestContour || parameters.contour_length > kLongestContour) {
    throw InputError(fmt::format("pathfinder: expected a contour length in [{}, {}], got {}",
                                 kShortestContour, kLongestContour, parameters.contour_length));
  }
  parameters.distractor_length = std::max(1, parameters.contour_length / 3);
  parameters.distractors =
      options.distractors.value_or(distractor_paddles / parameters.distractor_length);
  if (parameters.distractors < 0 || parameters.distractors > kMostDistractors) {
    throw InputError(fmt::format("pathfinder: expected distractors in [0, {}], got {}",
                                 kMostDistractors, parameters.distractors));
  }
  return parameters;
}

PathfinderPoint translate(PathfinderPoint from, double orientation, double distance) {
  return {static_cast<int>(std::ceil(from.y + distance * std::sin(orientation))),
          static_cast<int>(std::ceil(from.x + distance * std::cos(orientation)))};
}

double reverse(double orientation) {
  return orientation < 0 ? orientation + std::numbers::pi : orientation - std::numbers::pi;
}

PaddleShapes::PaddleShapes(const PathfinderParameters& parameters, int margin)
    : half_(parameters.paddle_length + static_cast<int>(std::ceil(parameters.paddle_thickness)) +
            margin),
      reach_(parameters.paddle_length * kAntialias) {
  const int side = 2 * half_ + 1;
  const int large_side = 2 * half_ * kAntialias + 1;
  const PathfinderPoint start{half_ * kAntialias, half_ * kAntialias};
  const int width = static_cast<int>(std::lround(parameters.paddle_thickness * kAntialias));
  const std::vector<PathfinderPoint> large_disc = disc_offsets(margin * kAntialias);
  const int element_reach = parameters.paddle_length + margin;
  for (int end_y = -reach_; end_y <= reach_; ++end_y) {
    for (int end_x = -reach_; end_x <= reach_; ++end_x) {
      PaddleShape& shape = shapes_.emplace_back();
      if (!is_stroke_end({end_y, end_x}, reach_)) continue;
      Grid<std::uint8_t> line(large_side, large_side);
      draw_line(line, start, {start.y + end_y, start.x + end_x}, width);
      Grid<std::uint8_t> mask(large_side, large_side);
      for (int y = 0; y < large_side; ++y) {
        for (int x = 0; x < large_side; ++x) {
          mask.at(y, x) = dilated_at(line, {y, x}, large_disc);
        }
      }
      shape.line = reduce_lanczos(line, side);
      shape.mask = reduce_lanczos(mask, side);
      for (int y = -element_reach; y <= element_reach; ++y) {
        for (int x = -element_reach; x <= element_reach; ++x) {
          if (shape.mask.at(half_ + y - 1, half_ + x - 1) == 255) shape.element.push_back({y, x});
        }
      }
    }
  }
}

const PaddleShape& PaddleShapes::at(PathfinderPoint end) const {
  const int row = end.y + reach_;
  const int column = end.x + reach_;
  const int index = row * (2 * reach_ + 1) + column;
  return shapes_.at(static_cast<std::size_t>(index));
}

const PaddleShape& PaddleShapes::along(double orientation) const {
  const PathfinderPoint start{half_ * kAntialias, half_ * kAntialias};
  const PathfinderPoint end = translate(start, orientation, reach_);
  return at({end.y - start.y, end.x - start.x});
}

}  // namespace ecoformer::data
