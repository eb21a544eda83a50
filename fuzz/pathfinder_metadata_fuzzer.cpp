// Feeds bytes to the Pathfinder metadata parser: it must refuse them with InputError or name files
// below the set's folder. Built with libFuzzer; tests/data replays the corpus.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "data/pathfinder_metadata.h"
#include "ecoformer/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view content(reinterpret_cast<const char*>(data), size);
  try {
    for (const auto& entry : ecoformer::data::parse_pathfinder_metadata(content)) {
      if (entry.file.front() == '/' || entry.file.find("/../") != std::string::npos) std::abort();
    }
  } catch (const ecoformer::InputError&) {
    // Refused, as it should be.
  }
  return 0;
}
