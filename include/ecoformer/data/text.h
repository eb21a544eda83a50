// Text classification from folders of files, read as bytes; IMDB's own layout works unchanged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "ecoformer/data/dataset.h"

namespace ecoformer::data {

/// Token ids: 0 padding, otherwise the byte's value + 1.
inline constexpr std::int64_t kByteVocabulary = 257;

/// The first `max_length` bytes of `text` as token ids.
std::vector<std::int32_t> encode_bytes(std::string_view text, std::int64_t max_length);

struct TextFolderOptions {
  /// Longer files are cut to this many bytes.
  std::int64_t max_length = 4000;
  /// Shares of each class held out where the folder has no splits of its own; rounded to whole
  /// files.
  double validation_fraction = 0.1;
  double test_fraction = 0.1;
  /// Decides which files those are.
  std::uint64_t seed = 0;
};

/// Reads `root` in one of two layouts:
///
/// - `<split>/<class>/<file>` where `root` has a folder `train`. The other splits are `val` and
/// `test`;
///   if one of them is missing the other serves as both, as the benchmark does with IMDB, and
///   `validation_is_test` is set. All splits must have the same classes, except that `unsup` in
///   `train` is skipped where no other split has it: IMDB's unlabelled reviews.
/// - `<class>/<file>` otherwise, split at random within each class.
///
/// Classes are numbered in the byte order of their names, files are read in the byte order of
/// theirs. Names that start with a dot, files beside the class folders and folders inside them are
/// ignored. Throws InputError naming the path: no class folders, classes that differ between
/// splits, a class without files or too few of them to split, an unreadable or empty file, options
/// out of range.
SequenceSplits read_text_folder(const std::filesystem::path& root,
                                const TextFolderOptions& options);

}  // namespace ecoformer::data
