// Feeds bytes to the image decoders: they must refuse them with InputError or return as many
// samples as the picture's sizes say. Built with libFuzzer, and replayed over the corpus by
// tests/data.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <span>

#include "ecoformer/base/error.h"
#include "ecoformer/data/image.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto image = ecoformer::data::decode_image(std::as_bytes(std::span(data, size)), "input");
    if (image.channels != 3 || std::ssize(image.pixels) != 3 * image.height * image.width) {
      std::abort();
    }
  } catch (const ecoformer::InputError&) {
    // Refused, as it should be.
  }
  return 0;
}
