// Feeds bytes to the safetensors header parser: it must refuse them with InputError or return
// tensors that tile the data. Built with libFuzzer, and replayed over the corpus by tests/io.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "ecoformer/base/error.h"
#include "ecoformer/io/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const auto header = ecoformer::io::parse_safetensors_header(bytes, size, "input");
    std::uint64_t end = ecoformer::io::safetensors_data_begin(bytes, size, "input");
    for (const auto& info : header.tensors) {
      if (info.offset != end) std::abort();
      end += info.bytes;
    }
    if (end != size) std::abort();
  } catch (const ecoformer::InputError&) {
    // Refused, as it should be.
  }
  return 0;
}
