// The authors' learner, kept as it is for parity (hashing/ksh.py, train_hashing_weight_woeig):
// dense targets, one small SGD run a bit, and one decision for all heads on whether to keep it.

#include <fmt/format.h>
#include <torch/torch.h>

#include "ecoformer/base/error.h"
#include "ecoformer/nn/hash_learner.h"

namespace ecoformer::nn {
namespace {

/// Mean over samples and heads of -y^T S y / (N b), y [B, H, N], S [B, H, N, N].
torch::Tensor loss_of(const torch::Tensor& y, const torch::Tensor& residue, std::int64_t bits) {
  const auto product = torch::matmul(y.unsqueeze(-2), residue).squeeze(-2) * y;
  return -(product.sum(-1) / static_cast<double>(y.size(-1) * bits)).mean();
}

torch::Tensor signs(const torch::Tensor& y) {
  return torch::where(y > 0, 1.0F, -1.0F);
}

}  // namespace

torch::Tensor official_affinity(const torch::Tensor& x, std::int64_t neighbours) {
  const auto unit = x / x.norm(2, -1, /*keepdim=*/true);
  const auto cosine = torch::matmul(unit, unit.transpose(-1, -2));
  const auto most = std::get<1>(cosine.topk(neighbours, -1, /*largest=*/true));
  const auto least = std::get<1>(cosine.topk(neighbours, -1, /*largest=*/false));
  return torch::zeros(cosine.sizes(), torch::kInt8).scatter_(-1, most, 1).scatter_(-1, least, -1);
}

void learn_official(HashFunctionImpl& hash, const torch::Tensor& x, const torch::Tensor& support,
                    const OfficialLearnerOptions& options) {
  const torch::NoGradGuard no_grad;
  const auto [heads, dim, bits, supports, bandwidth] = hash.options();
  const auto tokens = x.size(2);
  if (tokens < supports || tokens < 2 * options.neighbours) {
    throw Error(fmt::format(
        "official learner: expected at least {} tokens ({} supports, 2 x {} "
        "neighbours), got {}",
        std::max(supports, 2 * options.neighbours), supports, options.neighbours, tokens));
  }
  hash.anchor.copy_(support);
  const auto unit = x / x.norm(2, -1, /*keepdim=*/true);
  const auto distance = 2 - 2 * torch::matmul(unit, hash.anchor.transpose(-1, -2));
  const auto sigma = distance.mean({-2, -1}, /*keepdim=*/true);
  auto kernel = torch::exp(-distance / (2 * sigma));
  hash.mvec.copy_(kernel.mean({0, 2}, /*keepdim=*/true));
  if (hash.sigma.defined()) hash.sigma.copy_(sigma.mean({0, 2, 3}));
  kernel = kernel - hash.mvec;  // [B, H, N, m]

  auto residue =
      official_affinity(x, options.neighbours).to(torch::kFloat32) * static_cast<double>(bits);
  const double scale = 1.0 / static_cast<double>(tokens * bits * x.size(0) * heads);
  const auto project = [&](const torch::Tensor& a) {
    return torch::matmul(kernel, a.view({1, heads, supports, 1})).squeeze(-1);
  };
  for (std::int64_t r = 0; r < bits; ++r) {
    const auto start = hash.A.select(1, r).clone();
    auto a = start.clone();
    torch::Tensor velocity;
    const auto symmetric = residue + residue.transpose(-1, -2);
    for (std::int64_t step = 0; step < options.iterations; ++step) {
      const auto y = torch::tanh(project(a) / 2);  // 2 / (1 + exp(-z)) - 1
      const auto y_grad = -scale * torch::matmul(symmetric, y.unsqueeze(-1)).squeeze(-1);
      const auto z_grad = y_grad * (1 - y * y) / 2;
      const auto a_grad = torch::matmul(z_grad.unsqueeze(-2), kernel).squeeze(-2).sum(0);
      velocity = velocity.defined() ? options.momentum * velocity + a_grad : a_grad;
      a = a - options.learning_rate * (a_grad + options.momentum * velocity);
    }
    const auto before = signs(project(start));
    const auto after = signs(project(a));
    const bool better =
        loss_of(after, residue, bits).item<float>() < loss_of(before, residue, bits).item<float>();
    if (better) hash.A.select(1, r).copy_(a);
    const auto y = better ? after : before;
    residue = residue - y.unsqueeze(-1) * y.unsqueeze(-2);
  }
}

}  // namespace ecoformer::nn
