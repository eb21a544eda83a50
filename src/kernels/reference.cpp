// The kernels as plain loops: one line of code for one symbol of the formula, no speed intended.

#include "ecoformer/kernels/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>
#include <vector>

namespace ecoformer::kernels::reference {
namespace {

bool counts(const std::uint8_t* mask, std::int64_t n) {
  return mask == nullptr || mask[n] != 0;
}

int hamming(int a, int b) {
  return std::popcount(static_cast<unsigned>(a ^ b));
}

/// x^ = x / |x|, and 1 / |x| (0 for a zero token, which stays as it is).
struct UnitToken {
  std::vector<double> channels;
  double inverse_norm;
};

UnitToken normalise(const float* x, int dim) {
  double square = 0;
  for (int d = 0; d < dim; ++d) square += static_cast<double>(x[d]) * x[d];
  const double inverse = square > 0 ? 1 / std::sqrt(square) : 0;
  UnitToken unit{std::vector<double>(dim), inverse};
  for (int d = 0; d < dim; ++d) unit.channels[d] = x[d] * inverse;
  return unit;
}

/// The nearest bfloat16, the even one of two: the upper half of a float32.
float to_bfloat16(float x) {
  if (!std::isfinite(x)) return x;
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFFU + (bits >> 16 & 1U)) & 0xFFFF0000U);
}

/// A factor of encode's products.
double factor(Precision precision, double x) {
  return precision == Precision::kBfloat16 ? to_bfloat16(static_cast<float>(x)) : x;
}

/// |x^ - s|^2 of two unit vectors.
double square_distance(const std::vector<double>& x, const float* s) {
  double dot = 0;
  for (std::size_t d = 0; d < x.size(); ++d) dot += x[d] * s[d];
  return 2 - 2 * dot;
}

}  // namespace

double profile_at(CodeLayout layout, const Profile& profile, float bias, int g, int distance) {
  if (profile.kind == Profile::Kind::kLinear) {
    return layout.width(g) - 2.0 * distance + static_cast<double>(bias) / layout.groups();
  }
  return std::exp(-2.0 * profile.beta * distance);
}

void encode(const HashView& hash, ConstRows x, std::int64_t tokens, Code* codes, float* projection,
            Code* window) {
  const auto [dim, m, bits] = std::tuple(hash.dim, hash.supports, hash.bits);
  std::vector<double> centered(m);
  for (std::int64_t n = 0; n < tokens; ++n) {
    const UnitToken unit = normalise(x[n], dim);
    for (int j = 0; j < m; ++j) {
      double dot = 0;
      for (int d = 0; d < dim; ++d) {
        dot += factor(hash.precision, x[n][d]) * unit.inverse_norm *
               factor(hash.precision, hash.support[std::int64_t{j} * dim + d]);
      }
      // Rounded factors may make x^.s greater than 1.
      const double k = std::exp(std::min(0.0, dot - 1) / hash.bandwidth);
      centered[j] = factor(hash.precision, k - hash.mean[j]);
    }
    Code code = 0;
    Code inside = 0;
    for (int r = 0; r < bits; ++r) {
      double y = 0;
      for (int j = 0; j < m; ++j) {
        y += factor(hash.precision, hash.weight[r * m + j]) * centered[j];
      }
      if (y > 0) code |= Code{1} << r;
      if (std::abs(y) < 1) inside |= Code{1} << r;
      if (projection != nullptr) projection[n * bits + r] = static_cast<float>(y);
    }
    codes[n] = code;
    if (window != nullptr) window[n] = inside;
  }
}

float mean_squared_distance(const float* support, int supports, int dim, ConstRows x,
                            std::int64_t tokens, const std::uint8_t* mask) {
  double sum = 0;
  std::int64_t pairs = 0;
  for (std::int64_t n = 0; n < tokens; ++n) {
    if (!counts(mask, n)) continue;
    const UnitToken unit = normalise(x[n], dim);
    for (int j = 0; j < supports; ++j)
      sum += square_distance(unit.channels, support + std::int64_t{j} * dim);
    pairs += supports;
  }
  return pairs == 0 ? 0 : static_cast<float>(sum / static_cast<double>(pairs));
}

float encode_backward(const HashView& hash, ConstRows x, std::int64_t tokens, const Code* window,
                      const float* code_grad, Rows x_grad) {
  const auto [dim, m, bits] = std::tuple(hash.dim, hash.supports, hash.bits);
  const double sigma = hash.bandwidth;
  double sigma_grad = 0;
  std::vector<double> unit_grad(dim);
  for (std::int64_t n = 0; n < tokens; ++n) {
    const UnitToken unit = normalise(x[n], dim);
    std::fill(unit_grad.begin(), unit_grad.end(), 0.0);
    for (int j = 0; j < m; ++j) {
      const float* s = hash.support + std::int64_t{j} * dim;
      const double distance = square_distance(unit.channels, s);
      const double k = std::exp(-distance / (2 * sigma));
      double k_grad = 0;
      for (int r = 0; r < bits; ++r) {
        if (window[n] >> r & 1) k_grad += code_grad[n * bits + r] * hash.weight[r * m + j];
      }
      sigma_grad += k_grad * k * distance / (2 * sigma * sigma);
      for (int d = 0; d < dim; ++d) unit_grad[d] += k_grad * k / sigma * s[d];
    }
    double along = 0;
    for (int d = 0; d < dim; ++d) along += unit_grad[d] * unit.channels[d];
    for (int d = 0; d < dim; ++d) {
      x_grad[n][d] =
          static_cast<float>((unit_grad[d] - along * unit.channels[d]) * unit.inverse_norm);
    }
  }
  return static_cast<float>(sigma_grad);
}

void bandwidth_backward(const float* support, int supports, int dim, ConstRows x,
                        std::int64_t tokens, const std::uint8_t* mask, float bandwidth_grad,
                        Rows x_grad) {
  std::int64_t counted = 0;
  for (std::int64_t n = 0; n < tokens; ++n) counted += counts(mask, n) ? 1 : 0;
  std::vector<double> unit_grad(dim);  // d sigma / d x^_n = -2 mean(s) / counted, times dL/dsigma
  for (int d = 0; d < dim; ++d) {
    double mean = 0;
    for (int j = 0; j < supports; ++j) mean += static_cast<double>(support[j * dim + d]) / supports;
    unit_grad[d] = -2 * mean / static_cast<double>(counted) * bandwidth_grad;
  }
  for (std::int64_t n = 0; n < tokens; ++n) {
    if (!counts(mask, n)) continue;
    const UnitToken unit = normalise(x[n], dim);
    double along = 0;
    for (int d = 0; d < dim; ++d) along += unit_grad[d] * unit.channels[d];
    for (int d = 0; d < dim; ++d) {
      x_grad[n][d] +=
          static_cast<float>((unit_grad[d] - along * unit.channels[d]) * unit.inverse_norm);
    }
  }
}

void accumulate(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstRows values,
                const float* token_weights, std::int64_t tokens, int dim, Table table) {
  for (std::int64_t n = 0; n < tokens; ++n) {
    if (!counts(mask, n)) continue;
    for (int g = 0; g < layout.groups(); ++g) {
      const std::int64_t row = layout.first_row(g) + layout.value(codes[n], g);
      for (int d = 0; d < dim; ++d) table.values[row * dim + d] += values[n][d];
      table.weights[row] += token_weights == nullptr ? 1 : token_weights[n];
    }
  }
}

void mix(CodeLayout layout, const Profile& profile, int dim, ConstTable table, Table mixed) {
  for (int g = 0; g < layout.groups(); ++g) {
    const std::int64_t first = layout.first_row(g);
    for (int n = 0; n < layout.rows(g); ++n) {
      std::vector<double> values(dim, 0.0);
      double weight = 0;
      for (int other = 0; other < layout.rows(g); ++other) {
        const int distance = hamming(n, other);
        const double value_profile = profile_at(layout, profile, profile.value_bias, g, distance);
        for (int d = 0; d < dim; ++d) {
          values[d] += value_profile * table.values[(first + other) * dim + d];
        }
        weight += profile_at(layout, profile, profile.weight_bias, g, distance) *
                  table.weights[first + other];
      }
      for (int d = 0; d < dim; ++d) {
        mixed.values[(first + n) * dim + d] = static_cast<float>(values[d]);
      }
      mixed.weights[first + n] = static_cast<float>(weight);
    }
  }
}

void mix_derivative(CodeLayout layout, const Profile& profile, int dim, ConstTable table,
                    Table derivative) {
  for (int g = 0; g < layout.groups(); ++g) {
    const std::int64_t first = layout.first_row(g);
    for (int n = 0; n < layout.rows(g); ++n) {
      std::vector<double> values(dim, 0.0);
      double weight = 0;
      for (int other = 0; other < layout.rows(g); ++other) {
        const int distance = hamming(n, other);
        const double slope = -2.0 * distance * std::exp(-2.0 * profile.beta * distance);
        for (int d = 0; d < dim; ++d) values[d] += slope * table.values[(first + other) * dim + d];
        weight += slope * table.weights[first + other];
      }
      for (int d = 0; d < dim; ++d) {
        derivative.values[(first + n) * dim + d] = static_cast<float>(values[d]);
      }
      derivative.weights[first + n] = static_cast<float>(weight);
    }
  }
}

void gather(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstTable mixed,
            float self, ConstRows own, std::int64_t tokens, int dim, Rows out,
            float* inverse_weights) {
  for (std::int64_t n = 0; n < tokens; ++n) {
    float inverse = counts(mask, n) ? 1 : 0;
    if (mixed.weights != nullptr && inverse != 0) {
      float weight = 0;
      for (int g = 0; g < layout.groups(); ++g) {
        weight += mixed.weights[layout.first_row(g) + layout.value(codes[n], g)];
      }
      inverse = weight > 0 ? 1 / weight : 0;
    }
    for (int d = 0; d < dim; ++d) {
      float sum = 0;
      for (int g = 0; g < layout.groups(); ++g) {
        sum += mixed.values[(layout.first_row(g) + layout.value(codes[n], g)) * dim + d];
      }
      if (self != 0) sum += self * own[n][d];
      out[n][d] = inverse == 0 ? 0 : sum * inverse;
    }
    if (mixed.weights != nullptr && inverse_weights != nullptr) inverse_weights[n] = inverse;
  }
}

void gather_backward(ConstRows grad, ConstRows out, const float* inverse_weights,
                     std::int64_t tokens, int dim, Rows values_grad, float* weight_grad) {
  for (std::int64_t n = 0; n < tokens; ++n) {
    double along = 0;
    for (int d = 0; d < dim; ++d) {
      values_grad[n][d] = inverse_weights[n] == 0 ? 0 : grad[n][d] * inverse_weights[n];
      along += static_cast<double>(values_grad[n][d]) * out[n][d];
    }
    weight_grad[n] = static_cast<float>(-along);
  }
}

void bit_gradient(CodeLayout layout, const Code* codes, const std::uint8_t* mask, ConstRows x,
                  const float* token_weights, ConstTable mixed, std::int64_t tokens, int dim,
                  float* grad) {
  for (std::int64_t n = 0; n < tokens; ++n) {
    if (!counts(mask, n)) continue;
    for (int r = 0; r < layout.bits; ++r) {
      const int g = r / layout.group_bits;
      const std::int64_t set = layout.first_row(g) + layout.value(codes[n] | Code{1} << r, g);
      const std::int64_t clear = layout.first_row(g) + layout.value(codes[n] & ~(Code{1} << r), g);
      double sum = (token_weights == nullptr ? 1.0 : token_weights[n]) *
                   (static_cast<double>(mixed.weights[set]) - mixed.weights[clear]);
      for (int d = 0; d < dim; ++d) {
        sum += x[n][d] *
               (static_cast<double>(mixed.values[set * dim + d]) - mixed.values[clear * dim + d]);
      }
      grad[n * layout.bits + r] += static_cast<float>(sum / 2);
    }
  }
}

void attend(CodeLayout layout, const Profile& profile, const Code* query_codes,
            std::int64_t queries, const Code* key_codes, std::int64_t keys,
            const std::uint8_t* query_mask, const std::uint8_t* key_mask, ConstRows values, int dim,
            Rows out) {
  for (std::int64_t i = 0; i < queries; ++i) {
    std::vector<double> sum(dim, 0.0);
    double weight_sum = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      if (!counts(key_mask, j)) continue;
      double value_weight = 0;
      for (int g = 0; g < layout.groups(); ++g) {
        const int distance =
            hamming(layout.value(query_codes[i], g), layout.value(key_codes[j], g));
        value_weight += profile_at(layout, profile, profile.value_bias, g, distance);
        weight_sum += profile_at(layout, profile, profile.weight_bias, g, distance);
      }
      for (int d = 0; d < dim; ++d) sum[d] += value_weight * values[j][d];
    }
    const bool real = counts(query_mask, i) && weight_sum > 0;
    for (int d = 0; d < dim; ++d) {
      if (profile.self != 0 && real) sum[d] += static_cast<double>(profile.self) * values[i][d];
      out[i][d] = real ? static_cast<float>(sum[d] / weight_sum) : 0;
    }
  }
}

}  // namespace ecoformer::kernels::reference
