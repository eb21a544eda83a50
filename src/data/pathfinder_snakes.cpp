// Snakes grow on a mask of occupied pixels, 0..255. A snake's last paddle stays out of the mask
// until the next one lies, since that must be allowed to touch it.
#include "data/pathfinder_snakes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

#include "data/pathfinder_raster.h"

namespace ecoformer::data {
namespace {

constexpr double kPi = std::numbers::pi;
constexpr int kPaddleTries = 3;
constexpr int kDistractorTries = 5;
constexpr std::uint8_t kOccupied = 255;
// A pixel occupied to at most 0.3 is free; two paddles may share one up to a sum below 1.8.
constexpr int kMostFree = 76;
constexpr int kOverlap = 459;
constexpr double kLeastFreeShare = 0.01;
constexpr double kLeastWeight = 1e-4;

double draw_degrees(Engine& engine) {
  return (static_cast<double>(uniform_below(engine, 360)) - 180) * kPi / 180;
}

// A snake and what its next paddle starts from: the pivot, which lies a margin behind the last
// paddle, and the direction that the snake has there.
struct GrowingSnake {
  PathfinderSnake paddles;
  PathfinderPoint pivot;
  double orientation = 0;
  const PaddleShape* last = nullptr;
};

struct Candidate {
  PathfinderPoint head;
  double orientation = 0;
  double weight = 0;
};

class SnakeGrower {
 public:
  SnakeGrower(const PathfinderParameters& parameters, const PaddleShapes& shapes, int margin,
              Engine& engine)
      : parameters_(parameters),
        shapes_(shapes),
        length_(parameters.paddle_length),
        margin_(margin),
        margin_disc_(disc_offsets(margin)),
        engine_(engine) {}

  std::array<PathfinderSnake, 2> grow_targets();
  std::vector<PathfinderSnake> grow_distractors();

 private:
  std::optional<std::array<GrowingSnake, 2>> try_targets();
  std::optional<PathfinderSnake> try_distractor();
  std::optional<GrowingSnake> start_in_free_space(int frame);
  std::optional<GrowingSnake> start_beside(PathfinderPoint tail);
  std::optional<GrowingSnake> start_at(PathfinderPoint tail, double orientation) const;
  bool extend(GrowingSnake& snake);
  std::vector<Candidate> candidates_around(PathfinderPoint pivot, double orientation) const;
  const Candidate& draw(const std::vector<Candidate>& candidates, double total);
  bool collides(const PaddleShape& shape, PathfinderPoint start) const;
  void occupy_last(const GrowingSnake& snake);

  const PathfinderParameters& parameters_;
  const PaddleShapes& shapes_;
  int length_;
  int margin_;
  std::vector<PathfinderPoint> margin_disc_;
  Engine& engine_;
  Grid<std::uint8_t> mask_;
};

// The pixels that stay free after dilating `mask` with `element`: the generator's inner loop.
std::vector<PathfinderPoint> free_pixels(const Grid<std::uint8_t>& mask,
                                         const std::vector<PathfinderPoint>& element) {
  std::vector<PathfinderPoint> free;
  for (int y = 0; y < mask.rows; ++y) {
    for (int x = 0; x < mask.columns; ++x) {
      const bool is_free = std::all_of(element.begin(), element.end(), [&](PathfinderPoint offset) {
        return !mask.contains(y + offset.y, x + offset.x) ||
               mask.at(y + offset.y, x + offset.x) <= kMostFree;
      });
      if (is_free) free.push_back({y, x});
    }
  }
  return free;
}

// Sets a border of `width` pixels.
void draw_frame(Grid<std::uint8_t>& mask, int width) {
  for (int y = 0; y < mask.rows; ++y) {
    for (int x = 0; x < mask.columns; ++x) {
      const int edge = std::min({y, x, mask.rows - 1 - y, mask.columns - 1 - x});
      if (edge < width) mask.at(y, x) = kOccupied;
    }
  }
}

std::array<PathfinderSnake, 2> SnakeGrower::grow_targets() {
  // Ends with probability 1: every try is independent, and at every size many of them succeed.
  while (true) {
    mask_ = Grid<std::uint8_t>(parameters_.size, parameters_.size);
    draw_frame(mask_, parameters_.padding);
    if (auto snakes = try_targets()) {
      return {std::move((*snakes)[0].paddles), std::move((*snakes)[1].paddles)};
    }
  }
}

std::optional<std::array<GrowingSnake, 2>> SnakeGrower::try_targets() {
  auto first = start_in_free_space(2 * parameters_.seed_distance);
  if (!first) return std::nullopt;
  auto second = start_beside(first->paddles.front().start);
  if (!second) return std::nullopt;
  std::array<GrowingSnake, 2> snakes{std::move(*first), std::move(*second)};
  for (int paddle = 1; paddle < parameters_.contour_length; ++paddle) {
    for (GrowingSnake& snake : snakes) {
      if (!extend(snake)) return std::nullopt;
    }
  }
  // Only the second snake's: the original forgets the first one's last paddle, so that distractors
  // may cross it.
  occupy_last(snakes[1]);
  return snakes;
}

std::vector<PathfinderSnake> SnakeGrower::grow_distractors() {
  std::vector<PathfinderSnake> snakes;
  for (int i = 0; i < parameters_.distractors; ++i) {
    for (int attempt = 0; attempt < kDistractorTries; ++attempt) {
      const Grid<std::uint8_t> before = mask_;
      if (auto snake = try_distractor()) {
        snakes.push_back(std::move(*snake));
        break;
      }
      mask_ = before;
    }
  }
  return snakes;
}

std::optional<PathfinderSnake> SnakeGrower::try_distractor() {
  const auto free = std::count_if(mask_.values.begin(), mask_.values.end(),
                                  [](std::uint8_t occupied) { return occupied <= kMostFree; });
  if (static_cast<double>(free) < kLeastFreeShare * static_cast<double>(mask_.values.size())) {
    return std::nullopt;
  }
  auto snake = start_in_free_space(1);
  if (!snake) return std::nullopt;
  for (int paddle = 1; paddle < parameters_.distractor_length; ++paddle) {
    if (!extend(*snake)) return std::nullopt;
  }
  occupy_last(*snake);
  return std::move(snake->paddles);
}

// A first paddle at a random pixel around which, and outside of a frame, nothing lies.
std::optional<GrowingSnake> SnakeGrower::start_in_free_space(int frame) {
  Grid<std::uint8_t> framed = mask_;
  draw_frame(framed, frame);
  for (int attempt = 0; attempt < kPaddleTries; ++attempt) {
    const double orientation = draw_degrees(engine_);
    const std::vector<PathfinderPoint> free =
        free_pixels(framed, shapes_.along(orientation).element);
    if (free.empty()) return std::nullopt;
    const PathfinderPoint tail = free[uniform_below(engine_, free.size())];
    if (auto snake = start_at(tail, orientation)) return snake;
  }
  return std::nullopt;
}

// The second target's first paddle, in some direction from the first one's tail. What lies there
// is not asked.
std::optional<GrowingSnake> SnakeGrower::start_beside(PathfinderPoint tail) {
  for (int attempt = 0; attempt < kPaddleTries; ++attempt) {
    const double orientation = draw_degrees(engine_);
    const double direction = draw_degrees(engine_);
    const int distance = parameters_.seed_distance;
    const PathfinderPoint start{
        static_cast<int>(std::nearbyint(tail.y + distance * std::sin(direction))),
        static_cast<int>(std::nearbyint(tail.x + distance * std::cos(direction)))};
    if (auto snake = start_at(start, orientation)) return snake;
  }
  return std::nullopt;
}

std::optional<GrowingSnake> SnakeGrower::start_at(PathfinderPoint tail, double orientation) const {
  const PathfinderPoint head = translate(tail, orientation, length_);
  const PathfinderPoint pivot = translate(head, reverse(orientation), length_ + margin_);
  if (!mask_.contains(head.y, head.x) || !mask_.contains(pivot.y, pivot.x)) return std::nullopt;
  return GrowingSnake{.paddles = {{tail, orientation}},
                      .pivot = pivot,
                      .orientation = orientation,
                      .last = &shapes_.along(orientation)};
}

bool SnakeGrower::extend(GrowingSnake& snake) {
  const PathfinderPoint pivot = translate(snake.pivot, snake.orientation, length_ + 2 * margin_);
  const std::vector<Candidate> candidates = candidates_around(pivot, snake.orientation);
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  if (total < kLeastWeight) return false;
  for (int attempt = 0; attempt < kPaddleTries; ++attempt) {
    const Candidate& next = draw(candidates, total);
    const double backwards = reverse(next.orientation);
    const PaddleShape& shape = shapes_.along(backwards);
    if (collides(shape, next.head)) continue;
    occupy_last(snake);
    snake.paddles.push_back({next.head, backwards});
    snake.pivot = pivot;
    snake.orientation = next.orientation;
    snake.last = &shape;
    return true;
  }
  return false;
}

// Where the next paddle may end: the pixels of a circle around its pivot, weighted by how free they
// are and by how little the snake turns.
std::vector<Candidate> SnakeGrower::candidates_around(PathfinderPoint pivot,
                                                      double orientation) const {
  const int radius = length_ + margin_;
  const double step = 360 / (2 * radius * kPi);
  std::vector<PathfinderPoint> heads;
  for (int i = 0; i * step < 360; ++i) {
    const double angle = i * step * kPi / 180;
    const double y = pivot.y + radius * std::sin(angle);
    const double x = pivot.x + radius * std::cos(angle);
    if (y < 0 || y >= mask_.rows || x < 0 || x >= mask_.columns) continue;
    heads.push_back({static_cast<int>(y), static_cast<int>(x)});
  }
  std::sort(heads.begin(), heads.end(), [](PathfinderPoint a, PathfinderPoint b) {
    return std::pair(a.y, a.x) < std::pair(b.y, b.x);
  });
  heads.erase(std::unique(heads.begin(), heads.end()), heads.end());

  std::vector<Candidate> candidates;
  for (const PathfinderPoint head : heads) {
    const double towards = std::atan2(head.y - pivot.y, head.x - pivot.x);
    const double turn = std::abs(towards - orientation);
    const double weighted =
        std::min(std::min(turn, 2 * kPi - turn) * parameters_.continuity, kPi / 2);
    const double straight = std::max(std::cos(weighted), 0.0);
    const double free = 1 - dilated_at(mask_, head, margin_disc_) / 255.0;
    candidates.push_back({head, towards, free * straight * straight});
  }
  return candidates;
}

const Candidate& SnakeGrower::draw(const std::vector<Candidate>& candidates, double total) {
  const double goal = uniform_unit(engine_) * total;
  double sum = 0;
  const auto chosen =
      std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& candidate) {
        sum += candidate.weight;
        return sum > goal;
      });
  // Rounding may let the sum miss a goal just below the total.
  return chosen == candidates.end() ? candidates.back() : *chosen;
}

bool SnakeGrower::collides(const PaddleShape& shape, PathfinderPoint start) const {
  bool collision = false;
  for_each_covered(shape.mask, start, mask_, [&](std::uint8_t occupied, std::uint8_t wanted) {
    collision |= occupied + wanted >= kOverlap;
  });
  return collision;
}

void SnakeGrower::occupy_last(const GrowingSnake& snake) {
  for_each_covered(
      snake.last->mask, snake.paddles.back().start, mask_,
      [](std::uint8_t& occupied, std::uint8_t wanted) { occupied = std::max(occupied, wanted); });
}

}  // namespace

void grow_snakes(const PathfinderParameters& parameters, const PaddleShapes& shapes, Engine& engine,
                 PathfinderScene& scene) {
  SnakeGrower grower(parameters, shapes, scene.margin, engine);
  scene.targets = grower.grow_targets();
  scene.distractors = grower.grow_distractors();
}

}  // namespace ecoformer::data
