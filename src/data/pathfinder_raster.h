// The drawing operations of the Python libraries that the Pathfinder generator was written with, on
// 8 bit gray images: Pillow's lines and Lanczos filter, OpenCV's dilation. Equal to Pillow's own
// results on every stroke and disc that the generator draws.
#pragma once

#include <cstdint>
#include <vector>

#include "data/grid.h"
#include "ecoformer/data/pathfinder.h"

namespace ecoformer::data {

/// Draws a line of value 255 between two pixels, both included: Bresenham's for width 1, a filled
/// quadrangle otherwise, as Pillow's ImageDraw.line does. What lies outside of the image is cut.
void draw_line(Grid<std::uint8_t>& image, PathfinderPoint from, PathfinderPoint to, int width);

/// Reduces an image to side x side pixels with the windowed sinc of three lobes, as Pillow's
/// Image.resize does for 8 bit images: rows first, then columns, weights of 22 bit fixed point, and
/// results rounded to 8 bit after each.
Grid<std::uint8_t> reduce_lanczos(const Grid<std::uint8_t>& image, int side);

/// The offsets within `radius` of the centre: y^2 + x^2 <= radius^2.
std::vector<PathfinderPoint> disc_offsets(int radius);

/// The largest value of `image` at `point` and the pixels `offsets` away; those outside of the
/// image do not count, and if all are, 0.
std::uint8_t dilated_at(const Grid<std::uint8_t>& image, PathfinderPoint point,
                        const std::vector<PathfinderPoint>& offsets);

}  // namespace ecoformer::data
