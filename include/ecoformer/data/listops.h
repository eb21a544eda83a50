// The ListOps task of Long Range Arena: generator, evaluation, and the benchmark's TSV files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ecoformer/data/dataset.h"

namespace ecoformer::data {

/// Token ids: 0 padding, 1..10 the digits 0..9, 11 `[MIN`, 12 `[MAX`, 13 `[MED`, 14 `[SM`, 15 `]`.
inline constexpr std::int64_t kListOpsVocabulary = 16;

/// The distribution of expressions; the defaults are the benchmark's.
struct ListOpsOptions {
  /// The root has depth 1; a node at `max_depth` is always a digit.
  std::int64_t max_depth = 10;
  /// An operator takes 2..max_args arguments.
  std::int64_t max_args = 10;
  /// An expression of n tokens is kept if min_length < n < max_length, both strict.
  std::int64_t min_length = 500;
  std::int64_t max_length = 2000;
};

/// How many examples each set gets; the defaults are the benchmark's.
struct ListOpsCounts {
  std::int64_t train = 96'000;
  std::int64_t validation = 2'000;
  std::int64_t test = 2'000;
};

/// Draws distinct expressions and cuts them, in the order drawn, into train, validation and test
/// (the benchmark cuts a hash set, whose order is arbitrary). The result depends on the arguments
/// alone, on any machine. Throws InputError for options out of range, and after a bounded number of
/// draws where the wanted lengths cannot be reached or hold too few distinct expressions.
SequenceSplits generate_listops(const ListOpsOptions& options, const ListOpsCounts& counts,
                                std::uint64_t seed);

/// The token ids of an expression as the files print it; parentheses and spaces carry nothing and
/// are dropped. Checks the tokens, not the grammar. Throws InputError for an unknown token.
std::vector<std::int32_t> parse_listops(std::string_view source);

/// The expression as the files print it: left-nested pairs, `( ( ( [MAX 2 ) 9 ) ] )`. Throws
/// InputError where `tokens` is not exactly one complete expression.
std::string format_listops(std::span<const std::int32_t> tokens);

/// The value 0..9 of an expression. MIN and MAX as named, SM the sum modulo 10, MED the median,
/// which for an even number of arguments is the mean of the middle two, rounded down. Throws
/// InputError where `tokens` is not exactly one complete expression.
std::int64_t evaluate_listops(std::span<const std::int32_t> tokens);

/// Writes `basic_train.tsv`, `basic_val.tsv` and `basic_test.tsv` into `folder`, which is created
/// if missing: header `Source<TAB>Target`, rows ended by CR LF. Each file appears whole or not at
/// all. Throws Error where a file cannot be written.
void write_listops(const std::filesystem::path& folder, const SequenceSplits& splits);

/// What a reader does with long sequences.
struct ListOpsReadOptions {
  std::int64_t max_length = 2000;
  /// True cuts longer sequences to max_length tokens, as the benchmark does; false refuses them.
  bool truncate = false;
};

/// Reads one such file; rows may end in LF or CR LF. Throws InputError naming file and line: no or
/// empty file, wrong header, no rows, a row without a label, a label outside 0..9, an unknown
/// token, no tokens, more than max_length tokens. That a label is the value of its expression is
/// not checked.
SequenceDataset read_listops_tsv(const std::filesystem::path& path,
                                 const ListOpsReadOptions& options);

/// Reads the three files that write_listops writes. Throws as read_listops_tsv does.
SequenceSplits read_listops(const std::filesystem::path& folder, const ListOpsReadOptions& options);

}  // namespace ecoformer::data
