// Attends over random tokens with the installed modules and checks what needs no reference: shape,
// gradients that arrive, and equal values that come out as they went in.
#include <torch/torch.h>

#include <cstdio>

#include "ecoformer/nn/attention.h"

int main() {
  torch::manual_seed(1);
  ecoformer::nn::EcoAttention attention({.mechanism = "eco", .heads = 2, .dim = 8});
  {
    // Learning is not what this project is about: any unit rows are supports.
    torch::NoGradGuard no_grad;
    attention.ksh->anchor.copy_(
        torch::nn::functional::normalize(torch::randn_like(attention.ksh->anchor),
                                         torch::nn::functional::NormalizeFuncOptions().dim(-1)));
    attention.ksh->sigma.fill_(2);
  }
  const auto q = torch::randn({3, 2, 5, 8}, torch::requires_grad());
  const auto k = torch::randn({3, 2, 7, 8});
  const auto v = torch::full({3, 2, 7, 8}, 2.5, torch::requires_grad());

  const auto out = attention.forward(q, k, v);
  out.sum().backward();
  if (out.sizes() != torch::IntArrayRef({3, 2, 5, 8}) || !v.grad().defined() ||
      !torch::allclose(out, torch::full_like(out, 2.5))) {
    std::fprintf(stderr,
                 "attention: expected 2.5 everywhere in [3, 2, 5, 8] and a gradient of v\n");
    return 1;
  }
  return 0;
}
