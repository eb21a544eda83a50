// Pathfinder images: the scene of one index, and its rendering.
#include "ecoformer/data/pathfinder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "data/pathfinder_paddles.h"
#include "data/pathfinder_raster.h"
#include "data/pathfinder_snakes.h"
#include "data/random.h"

namespace ecoformer::data {
namespace {

using Canvas = Grid<double>;

void draw_snake(Canvas& canvas, const PathfinderSnake& snake, const PaddleShapes& shapes,
                double contrast) {
  for (const PathfinderPaddle& paddle : snake) {
    for_each_covered(shapes.along(paddle.orientation).line, paddle.start, canvas,
                     [&](double& pixel, std::uint8_t ink) {
                       // Through float32, as in the original, whose rounding decides ties later.
                       const auto intensity = static_cast<float>(ink / 255.0 * contrast);
                       pixel = std::max(pixel, static_cast<double>(intensity));
                     });
  }
}

void draw_marker(Canvas& canvas, PathfinderPoint centre, double radius) {
  const int large_side = canvas.rows * kAntialias;
  Grid<std::uint8_t> large(large_side, large_side);
  for (const PathfinderPoint offset : disc_offsets(static_cast<int>(radius * kAntialias))) {
    const int y = centre.y * kAntialias + offset.y;
    const int x = centre.x * kAntialias + offset.x;
    if (large.contains(y, x)) large.at(y, x) = 255;
  }
  const Grid<std::uint8_t> disc = reduce_lanczos(large, canvas.rows);
  for (std::size_t i = 0; i < canvas.values.size(); ++i) {
    canvas.values[i] = std::max(canvas.values[i], disc.values[i] / 255.0);
  }
}

// The intensities from the darkest to the brightest as 0..255.
std::vector<std::uint8_t> stretch(const Canvas& canvas) {
  const auto [darkest, brightest] = std::minmax_element(canvas.values.begin(), canvas.values.end());
  const double low = *darkest;
  const double scale = 255 / (*brightest - low);
  std::vector<std::uint8_t> pixels;
  pixels.reserve(canvas.values.size());
  for (const double value : canvas.values) {
    pixels.push_back(
        static_cast<std::uint8_t>(std::clamp((value - low) * scale, 0.0, 255.0) + 0.5));
  }
  return pixels;
}

}  // namespace

struct PathfinderGenerator::Parts {
  PathfinderParameters parameters;
  std::vector<PaddleShapes> shapes;  // One a margin.
  std::uint64_t seed = 0;
};

PathfinderGenerator::PathfinderGenerator(const PathfinderOptions& options, std::uint64_t seed) {
  auto parts = std::make_unique<Parts>();
  parts->parameters = parameters_of(options);
  for (const int margin : parts->parameters.margins) {
    parts->shapes.emplace_back(parts->parameters, margin);
  }
  parts->seed = seed;
  parts_ = std::move(parts);
}

PathfinderGenerator::PathfinderGenerator(PathfinderGenerator&&) noexcept = default;
PathfinderGenerator::~PathfinderGenerator() = default;

PathfinderImage PathfinderGenerator::draw(std::uint64_t index) const {
  const PathfinderParameters& parameters = parts_->parameters;
  Engine engine = engine_of({parts_->seed, index});
  PathfinderImage image;
  PathfinderScene& scene = image.scene;
  scene.label = static_cast<std::int64_t>(uniform_below(engine, 2));
  const std::size_t choice = uniform_below(engine, parameters.margins.size());
  scene.margin = parameters.margins[choice];
  const PaddleShapes& shapes = parts_->shapes[choice];
  grow_snakes(parameters, shapes, engine, scene);
  const std::size_t origin = uniform_below(engine, 2);
  const std::size_t terminal = scene.label == 1 ? origin : 1 - origin;
  scene.markers = {scene.targets[origin].front().start, scene.targets[terminal].back().start};

  Canvas canvas(parameters.size, parameters.size);
  for (const PathfinderSnake& snake : scene.targets) {
    draw_snake(canvas, snake, shapes, parameters.target_contrast);
  }
  for (const PathfinderSnake& snake : scene.distractors) {
    draw_snake(canvas, snake, shapes, parameters.distractor_contrast);
  }
  for (const PathfinderPoint marker : scene.markers) {
    draw_marker(canvas, marker, parameters.marker_radius);
  }
  image.pixels = stretch(canvas);
  return image;
}

std::string PathfinderGenerator::describe(const std::string& folder, const std::string& file,
                                          std::int64_t number, const PathfinderScene& scene) const {
  const PathfinderParameters& parameters = parts_->parameters;
  return fmt::format("{} {} {} {} {:.1f} {} {} {} {} {} 1", folder, file, number, scene.label,
                     parameters.continuity, parameters.contour_length, parameters.distractor_length,
                     parameters.paddle_length, parameters.paddle_thickness, scene.margin);
}

}  // namespace ecoformer::data
