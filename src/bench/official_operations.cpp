// One LibTorch operation for each operation of theirs.

#include "bench/official_operations.h"

#include <torch/torch.h>

namespace ecoformer::bench {

torch::Tensor official_operations(const torch::Tensor& x, const torch::Tensor& v,
                                  const nn::HashState& hash) {
  const auto bits = hash.weight.size(1);
  const auto unit = x / x.norm(2, -1, /*keepdim=*/true);
  const auto distance = 2 - 2 * torch::matmul(unit, hash.support.transpose(-1, -2));
  const auto sigma = distance.mean({-2, -1}, /*keepdim=*/true);
  const auto kernel = torch::exp(-distance / (2 * sigma)) - hash.mean;
  const auto y = torch::matmul(kernel, hash.weight.transpose(-1, -2).unsqueeze(0));
  // The sign forwards, the clipped identity backwards.
  const auto clipped = y.clamp(-1, 1);
  const auto code = (y.sign() - clipped).detach() + clipped;  // [B, H, N, b]

  const auto bias = static_cast<double>(bits + 1);
  const auto values = torch::matmul(code.transpose(-1, -2), v);  // [B, H, b, D]
  const auto weights = code.sum(-2, /*keepdim=*/true);           // [B, H, 1, b]
  const auto numerator = torch::matmul(code, values) + bias * v;
  const auto denominator = torch::matmul(code, weights.transpose(-1, -2)) +
                           bias * static_cast<double>(x.size(2));  // [B, H, N, 1]
  return numerator / denominator;
}

}  // namespace ecoformer::bench
