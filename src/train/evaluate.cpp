// Evaluation: sums over examples in float64.
#include "ecoformer/train/evaluate.h"

#include <torch/torch.h>

#include <chrono>
#include <cmath>

#include "train/eval_mode.h"

namespace ecoformer::train {

Evaluation evaluate(models::Classifier& model, data::Loader& loader) {
  const torch::NoGradGuard no_grad;
  const EvalMode eval_mode(model);
  Evaluation result;
  constexpr std::int64_t kTop = 5;
  std::int64_t correct = 0, near = 0;
  double loss = 0;
  loader.start_epoch(0);
  while (const auto batch = loader.next()) {
    const auto start = std::chrono::steady_clock::now();
    const torch::Tensor logits = model.forward(batch->inputs, batch->mask);
    result.seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result.examples += batch->labels.size(0);
    result.skipped += std::ssize(batch->skipped);
    if (batch->mask.defined()) result.tokens += batch->mask.sum().item<std::int64_t>();
    if (model.classes() > kTop) {
      near += std::get<1>(logits.topk(kTop, -1))
                  .eq(batch->labels.unsqueeze(-1))
                  .sum()
                  .item<std::int64_t>();
    }
    correct += logits.argmax(-1).eq(batch->labels).sum().item<std::int64_t>();
    loss += torch::nll_loss(logits.to(torch::kFloat64).log_softmax(-1), batch->labels, {},
                            at::Reduction::Sum)
                .item<double>();
  }
  const auto examples = static_cast<double>(result.examples);
  result.accuracy = static_cast<double>(correct) / examples;
  result.standard_error = std::sqrt(result.accuracy * (1 - result.accuracy) / examples);
  if (model.classes() > kTop) result.top5_accuracy = static_cast<double>(near) / examples;
  result.loss = loss / examples;
  result.ms_per_example = 1000 * result.seconds / examples;
  return result;
}

}  // namespace ecoformer::train
