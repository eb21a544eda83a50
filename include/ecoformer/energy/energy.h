// Arithmetic of a model and the energy it would take: pure functions of a configuration, no
// weights.
//
// Two countings, never mixed. `published` is the authors' formula, which reproduces their tables;
// `counted` is what our kernels and LibTorch's really do. Energy and area are those of the
// arithmetic alone (45 nm, float32), without any memory traffic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ecoformer/models/architecture.h"
#include "ecoformer/models/pyramid_plan.h"
#include "ecoformer/models/sequence_encoder_config.h"

namespace ecoformer::energy {

/// How many of each kind. `published` knows no exponentials, and its divisions are multiplications.
struct Operations {
  std::int64_t multiplications = 0;
  std::int64_t additions = 0;
  std::int64_t exponentials = 0;
  std::int64_t divisions = 0;  ///< and square roots, which cost about the same

  friend bool operator==(const Operations&, const Operations&) = default;
};

Operations operator+(const Operations& a, const Operations& b);
/// `times` repetitions.
Operations operator*(std::int64_t times, const Operations& operations);

/// Energy in pJ and area in um^2 of one float32 operation at 45 nm (paper, table 1).
inline constexpr double kMultiplyPicojoule = 3.7;
inline constexpr double kAddPicojoule = 0.9;
inline constexpr double kMultiplyArea = 7700;
inline constexpr double kAddArea = 4184;

/// An exponential is charged, wherever it stands, as the float32 polynomial that the kernels
/// evaluate (exp2 in src/kernels/encode-inl.h) and its scale by log2(e): 6 multiplications, 9
/// additions. The paper's table has no row for it.
inline constexpr Operations kExponentialCost{.multiplications = 6, .additions = 9};
/// A division or square root is charged as one multiplication, the authors' own rule for divisions.
inline constexpr Operations kDivisionCost{.multiplications = 1};

/// Energy in mJ, exponentials and divisions charged as above.
double energy_mj(const Operations& operations);
/// Area in mm^2 if every operation had its own unit, as the authors report it.
double area_mm2(const Operations& operations);

/// Which formula counts.
enum class Counting { kPublished, kCounted };
std::string to_string(Counting counting);

/// The authors' count of one layer's attention without its projections, H heads of D channels
/// (get_energy.py): `queries` tokens that attend to `keys`, in EcoFormer N tokens to one another.
/// Their script fixes b = 16 and m = 25 whatever the model has; these
/// functions take the model's own, and agree with the script at 16 and 25.
Operations published_softmax_attention(std::int64_t queries, std::int64_t keys, std::int64_t heads,
                                       std::int64_t dim);
Operations published_eco_attention(std::int64_t tokens, std::int64_t heads, std::int64_t dim,
                                   std::int64_t bits, std::int64_t supports);

/// The count of one layer's softmax attention: scores, scaling, exponentials, sums, weighted
/// values.
Operations counted_softmax_attention(std::int64_t queries, std::int64_t keys, std::int64_t heads,
                                     std::int64_t dim);

/// The parts of one head's EcoFormer attention, as the kernels do them.
///
/// Hashing `tokens` tokens, bandwidth included.
Operations counted_encode(std::int64_t tokens, const nn::AttentionOptions& options);
/// Accumulating and gathering `tokens` tokens, and mixing once.
Operations counted_tables(std::int64_t tokens, const nn::AttentionOptions& options);
/// The same for few tokens, pair by pair.
Operations counted_pairs(std::int64_t tokens, const nn::AttentionOptions& options);
/// One layer, all heads of `options`: queries and keys are hashed once if tied, else each.
Operations counted_eco_attention(std::int64_t tokens, const nn::AttentionOptions& options,
                                 nn::Projection projection);

/// One line of a report.
struct Row {
  std::string model;
  std::string attention;  ///< original, softmax, or eco with its semantics
  Counting counting = Counting::kPublished;
  std::int64_t tokens = 0;          ///< of the sequence, or of an image's first stage
  Operations operations;            ///< of the whole model, one sequence or image
  Operations attention_operations;  ///< of its attention without the projections, all layers
};

/// Counts one sequence of `tokens` real tokens through the encoder. Throws
/// InputError if the configuration is not valid, `tokens` is less than 1 or exceeds its positions,
/// or the attention mechanism has no count.
Row count(const models::SequenceEncoderConfig& config, std::int64_t tokens, Counting counting);

/// Counts one input through a model of any type: an image of size `input`, or a sequence of its
/// number of tokens. `published` takes convolutions with their bias and linear layers without, and
/// neither activations, pooling nor residual additions, as the authors' script does. Throws
/// InputError if the architecture is not valid, can not take such an input, or has no count.
Row count(const models::Architecture& architecture, models::MapSize input, Counting counting);

}  // namespace ecoformer::energy
