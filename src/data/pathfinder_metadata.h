// The list of a batch's images: text lines, as the benchmark released and this project writes them,
// or a numpy array of strings, as the original generator saved them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ecoformer::data {

/// One image of a batch.
struct PathfinderEntry {
  std::string file;  ///< Below the set's folder: "imgs/0/sample_0.png". Cannot lead out of it.
  std::int64_t label = 0;
};

/// Reads either form; both hold 11 fields an image, of which the first two name the file and the
/// fourth is the label. Throws InputError naming the line or row and what is wrong with it. Uses
/// memory in proportion to `content`.
std::vector<PathfinderEntry> parse_pathfinder_metadata(std::string_view content);

}  // namespace ecoformer::data
