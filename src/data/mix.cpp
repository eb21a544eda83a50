// Loops over the buffers: LibTorch's own operators would start a team of threads under every
// worker.
#include "data/mix.h"

#include <algorithm>
#include <cmath>

namespace ecoformer::data {

Mixing draw_mixing(std::int64_t size, Engine& engine) {
  if (uniform_unit(engine) >= 0.5) return {.lambda = symmetric_beta(engine, 0.8)};
  const double lambda = symmetric_beta(engine, 1);
  const auto half =
      static_cast<std::int64_t>(std::sqrt(1 - lambda) * static_cast<double>(size)) / 2;
  const auto interval = [&](std::int64_t& begin, std::int64_t& length) {
    const auto centre =
        static_cast<std::int64_t>(uniform_below(engine, static_cast<std::uint64_t>(size)));
    begin = std::max<std::int64_t>(centre - half, 0);
    length = std::min(centre + half, size) - begin;
  };
  Mixing mixing{.cut = true};
  interval(mixing.box.top, mixing.box.height);
  interval(mixing.box.left, mixing.box.width);
  mixing.lambda = 1 - static_cast<double>(mixing.box.height * mixing.box.width) /
                          static_cast<double>(size * size);
  return mixing;
}

void mix(torch::Tensor& inputs, const Mixing& mixing) {
  const std::int64_t height = inputs.size(2);
  const std::int64_t width = inputs.size(3);
  const std::int64_t rows = inputs.size(1) * height;
  const Box box = mixing.cut ? mixing.box : Box{.height = height, .width = width};
  const auto kept = static_cast<float>(mixing.lambda);
  const auto taken = static_cast<float>(1 - mixing.lambda);
  auto* const data = inputs.mutable_data_ptr<float>();
  for (std::int64_t i = 0, j = inputs.size(0) - 1; i <= j; ++i, --j) {
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t y = row % height;
      if (y < box.top || y >= box.top + box.height) continue;
      float* const a = data + (i * rows + row) * width;
      float* const b = data + (j * rows + row) * width;
      for (std::int64_t x = box.left; x < box.left + box.width; ++x) {
        const float first = a[x];
        const float second = b[x];
        a[x] = mixing.cut ? second : first * kept + second * taken;
        b[x] = mixing.cut ? first : second * kept + first * taken;
      }
    }
  }
}

torch::Tensor mixed_targets(const torch::Tensor& labels, std::int64_t classes, double lambda,
                            double smoothing) {
  const std::int64_t samples = labels.size(0);
  torch::Tensor targets = torch::empty({samples, classes}, torch::kFloat32);
  const auto* const label = labels.const_data_ptr<std::int64_t>();
  auto* row = targets.mutable_data_ptr<float>();
  const double off = smoothing / static_cast<double>(classes);
  for (std::int64_t i = 0; i < samples; ++i, row += classes) {
    std::fill_n(row, classes, static_cast<float>(off));
    const std::int64_t own = label[i];
    const std::int64_t other = label[samples - 1 - i];
    row[own] = static_cast<float>(off + lambda * (1 - smoothing));
    row[other] = static_cast<float>(off + (own == other ? 1 : 1 - lambda) * (1 - smoothing));
  }
  return targets;
}

}  // namespace ecoformer::data
