// The parameters of the Pathfinder sets, and how one paddle looks: its stroke, and the area that it
// keeps other paddles out of.
#pragma once

#include <cstdint>
#include <vector>

#include "data/grid.h"
#include "ecoformer/data/pathfinder.h"

namespace ecoformer::data {

/// Strokes and discs are drawn this many times larger and then reduced.
inline constexpr int kAntialias = 2;

/// What the benchmark's generator is told for one set; lengths in pixels.
struct PathfinderParameters {
  int size = 0;
  int padding = 0;  ///< width of the border that paddles keep out of
  int paddle_length = 0;
  double paddle_thickness = 0;
  std::vector<int> margins = {};  ///< an image draws one of them
  int seed_distance = 0;          ///< between the first ends of the two target snakes
  double marker_radius = 0;
  double continuity =
      0;  ///< factor on the angle of a turn before it is weighted; 90 degrees at most
  int contour_length = 0;     ///< paddles of a target snake
  int distractor_length = 0;  ///< paddles of a distractor
  int distractors = 0;        ///< distractors to try
  double target_contrast = 0;
  double distractor_contrast = 0;
};

/// Throws InputError for options out of range.
PathfinderParameters parameters_of(const PathfinderOptions& options);

/// The pixel `distance` away along `orientation`, both coordinates rounded up as in the original.
PathfinderPoint translate(PathfinderPoint from, double orientation, double distance);

/// The opposite direction, in [-pi, pi].
double reverse(double orientation);

/// A paddle in a square patch whose centre is the paddle's start.
struct PaddleShape {
  Grid<std::uint8_t> line = {};  ///< intensity of the stroke, 255 for 1
  Grid<std::uint8_t> mask = {};  ///< how much of a pixel it occupies with its margin, 255 for all
  /// The pixels that it occupies fully as a structuring element; one off the centre in either
  /// direction and cut at a window of 2 (length + margin) + 1 pixels, as in the original.
  std::vector<PathfinderPoint> element = {};
};

/// The shapes of all paddles of one margin: the end of a stroke lies on the enlarged grid, so there
/// are but a few dozen.
class PaddleShapes {
 public:
  PaddleShapes(const PathfinderParameters& parameters, int margin);

  /// The shape of a paddle that leaves its start in this direction.
  const PaddleShape& along(double orientation) const;

 private:
  const PaddleShape& at(PathfinderPoint end) const;

  int half_ = 0;   // Of a patch's side, without its centre.
  int reach_ = 0;  // From a stroke's start to its end on the enlarged grid.
  std::vector<PaddleShape> shapes_;
};

/// Calls visit(pixel of the canvas, pixel of the patch) wherever a patch centred on `centre` lies
/// inside of the canvas.
template <typename Canvas, typename Visit>
void for_each_covered(const Grid<std::uint8_t>& patch, PathfinderPoint centre, Canvas& canvas,
                      const Visit& visit) {
  for (int y = 0; y < patch.rows; ++y) {
    for (int x = 0; x < patch.columns; ++x) {
      const PathfinderPoint at{centre.y + y - patch.rows / 2, centre.x + x - patch.columns / 2};
      if (canvas.contains(at.y, at.x)) visit(canvas.at(at.y, at.x), patch.at(y, x));
    }
  }
}

}  // namespace ecoformer::data
