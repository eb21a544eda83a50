// Lines, Lanczos reduction and dilation, to the last bit where the originals' rounding shows.
#include "data/pathfinder_raster.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numbers>
#include <utility>

namespace ecoformer::data {
namespace {

constexpr std::uint8_t kInk = 255;

// Halves are rounded away from zero, and towards it.
int round_up(double value) {
  return static_cast<int>(value >= 0 ? std::floor(value + 0.5) : -std::floor(-value + 0.5));
}
int round_down(double value) {
  return static_cast<int>(value >= 0 ? std::ceil(value - 0.5) : -std::ceil(-value - 0.5));
}

void draw_row(Grid<std::uint8_t>& image, int y, int from, int to) {
  if (y < 0 || y >= image.rows) return;
  for (int x = std::max(from, 0); x <= std::min(to, image.columns - 1); ++x) image.at(y, x) = kInk;
}

void draw_thin_line(Grid<std::uint8_t>& image, PathfinderPoint from, PathfinderPoint to) {
  const int dy = std::abs(to.y - from.y);
  const int dx = std::abs(to.x - from.x);
  const int step_y = to.y < from.y ? -1 : 1;
  const int step_x = to.x < from.x ? -1 : 1;
  const bool flat = dx > dy;
  const int length = std::max(dx, dy);
  const int rise = std::min(dx, dy);
  int error = 2 * rise - length;
  PathfinderPoint at = from;
  for (int i = 0; i <= length; ++i) {
    draw_row(image, at.y, at.x, at.x);
    const bool aside = rise > 0 && error >= 0;
    if (aside) error -= 2 * length;
    error += 2 * rise;
    if (flat || aside) at.x += step_x;
    if (!flat || aside) at.y += step_y;
  }
}

// Every row between the two outermost crossings with the edges. The quadrangle is convex, so these
// are all there is to know of a row.
void fill_convex(Grid<std::uint8_t>& image, const std::array<PathfinderPoint, 4>& corners) {
  const auto by_row = [](PathfinderPoint a, PathfinderPoint b) { return a.y < b.y; };
  const auto [top, bottom] = std::minmax_element(corners.begin(), corners.end(), by_row);
  for (int y = top->y; y <= bottom->y; ++y) {
    float left = std::numeric_limits<float>::infinity();
    float right = -left;
    const auto cross = [&](float x) {
      left = std::min(left, x);
      right = std::max(right, x);
    };
    for (std::size_t i = 0; i < corners.size(); ++i) {
      const PathfinderPoint a = corners[i];
      const PathfinderPoint b = corners[(i + 1) % corners.size()];
      if (y < std::min(a.y, b.y) || y > std::max(a.y, b.y)) continue;
      if (a.y == b.y) {
        cross(static_cast<float>(a.x));
        cross(static_cast<float>(b.x));
      } else {
        const float slope = static_cast<float>(b.x - a.x) / static_cast<float>(b.y - a.y);
        cross(static_cast<float>(y - a.y) * slope + static_cast<float>(a.x));
      }
    }
    draw_row(image, y, round_up(left), round_down(right));
  }
}

double lanczos(double x) {
  constexpr double kLobes = 3;
  if (x == 0) return 1;
  if (x < -kLobes || x >= kLobes) return 0;
  const auto sinc = [](double z) { return std::sin(z) / z; };
  return sinc(std::numbers::pi * x) * sinc(std::numbers::pi * x / kLobes);
}

// The pixels that one pixel of the result is made of.
struct Taps {
  int first = 0;
  std::vector<std::int64_t> weights;  // Fixed point.
};

constexpr int kWeightBits = 22;

std::vector<Taps> lanczos_taps(int from, int to) {
  const double scale = static_cast<double>(from) / to;
  const double support = 3 * scale;
  std::vector<Taps> taps(static_cast<std::size_t>(to));
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int last = std::min(from, static_cast<int>(centre + support + 0.5));
    std::vector<double> weights;
    double total = 0;
    for (int x = first; x < last; ++x) {
      weights.push_back(lanczos((x - centre + 0.5) * (1 / scale)));
      total += weights.back();
    }
    Taps& tap = taps[static_cast<std::size_t>(i)];
    tap.first = first;
    for (const double weight : weights) {
      tap.weights.push_back(
          static_cast<std::int64_t>(std::llround(weight / total * (1 << kWeightBits))));
    }
  }
  return taps;
}

std::uint8_t to_byte(std::int64_t fixed) {
  constexpr std::int64_t kHalf = std::int64_t{1} << (kWeightBits - 1);
  return static_cast<std::uint8_t>(
      std::clamp<std::int64_t>((fixed + kHalf) >> kWeightBits, 0, 255));
}

// Every row reduced by `taps`, and the result transposed, so that twice reduces both ways.
Grid<std::uint8_t> reduce_rows(const Grid<std::uint8_t>& image, const std::vector<Taps>& taps) {
  Grid<std::uint8_t> result(static_cast<int>(taps.size()), image.rows);
  for (int y = 0; y < image.rows; ++y) {
    for (int x = 0; x < result.rows; ++x) {
      const Taps& tap = taps[static_cast<std::size_t>(x)];
      std::int64_t sum = 0;
      int from = tap.first;
      for (const std::int64_t weight : tap.weights) sum += weight * image.at(y, from++);
      result.at(x, y) = to_byte(sum);
    }
  }
  return result;
}

}  // namespace

void draw_line(Grid<std::uint8_t>& image, PathfinderPoint from, PathfinderPoint to, int width) {
  if (width == 1 || from == to) return draw_thin_line(image, from, to);
  const int dx = to.x - from.x;
  const int dy = to.y - from.y;
  const double half = (width - 1) / 2.0;
  const double length = std::hypot(dx, dy);
  // An even width has no middle: one side gets the odd half pixel.
  const double wide = round_up(half) / length;
  const double narrow = round_down(half) / length;
  const int left = round_down(narrow * dy);
  const int right = round_down(wide * dy);
  const int above = round_down(narrow * dx);
  const int below = round_down(wide * dx);
  fill_convex(image, {{{from.y + below, from.x - left},
                       {to.y + below, to.x - left},
                       {to.y - above, to.x + right},
                       {from.y - above, from.x + right}}});
}

Grid<std::uint8_t> reduce_lanczos(const Grid<std::uint8_t>& image, int side) {
  const Grid<std::uint8_t> narrow = reduce_rows(image, lanczos_taps(image.columns, side));
  return reduce_rows(narrow, lanczos_taps(image.rows, side));
}

std::vector<PathfinderPoint> disc_offsets(int radius) {
  std::vector<PathfinderPoint> offsets;
  for (int y = -radius; y <= radius; ++y) {
    for (int x = -radius; x <= radius; ++x) {
      if (y * y + x * x <= radius * radius) offsets.push_back({y, x});
    }
  }
  return offsets;
}

std::uint8_t dilated_at(const Grid<std::uint8_t>& image, PathfinderPoint point,
                        const std::vector<PathfinderPoint>& offsets) {
  std::uint8_t largest = 0;
  for (const PathfinderPoint offset : offsets) {
    const int y = point.y + offset.y;
    const int x = point.x + offset.x;
    if (image.contains(y, x)) largest = std::max(largest, image.at(y, x));
  }
  return largest;
}

}  // namespace ecoformer::data
