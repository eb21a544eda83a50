// Labelled token sequences as plain values: what readers and generators return and loaders consume.
// Every member has a default, so that designated initialisers may name only some of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ecoformer::data {

/// One sequence and its class. Token ids lie in [1, vocabulary); id 0 is padding and occurs only
/// where SequenceDataset::masked_tokens allows it.
struct Example {
  std::vector<std::int32_t> tokens = {};
  std::int64_t label = 0;
};

/// A set of examples over one vocabulary and one list of classes; a label indexes `class_names`.
struct SequenceDataset {
  std::string name = {};
  std::vector<Example> examples = {};
  std::vector<std::string> class_names = {};
  /// Number of token ids, the padding id 0 included.
  std::int64_t vocabulary = 0;
  /// True where id 0 may also stand inside an example: a token that keeps its position and is
  /// masked like padding.
  bool masked_tokens = false;
};

/// The three sets of a task.
struct SequenceSplits {
  SequenceDataset train = {};
  SequenceDataset validation = {};
  SequenceDataset test = {};
  /// True where the source holds only one held-out set, so that `validation` and `test` are the
  /// same examples and the selected accuracy is optimistic; reports have to say so.
  bool validation_is_test = false;
};

}  // namespace ecoformer::data
