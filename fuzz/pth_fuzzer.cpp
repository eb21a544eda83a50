// Feeds bytes to the reader of torch.save's files: it must refuse them with InputError or return
// tensors that lie within their storages, and storages side by side within the file. Built with
// libFuzzer, and replayed over the corpus by tests/io.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "ecoformer/base/error.h"
#include "ecoformer/io/pth_index.h"
#include "io/dtype.h"

using ecoformer::io::PthIndex;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check_storages(const PthIndex& index, std::size_t size) {
  std::vector<bool> is_taken(size);
  for (const auto& storage : index.storages) {
    require(storage.offset <= size && storage.bytes <= size - storage.offset);
    for (std::size_t i = 0; i < storage.bytes; ++i) {
      require(!is_taken[storage.offset + i]);
      is_taken[storage.offset + i] = true;
    }
  }
}

void check_tensors(const PthIndex& index) {
  for (const auto& tensor : index.tensors) {
    const auto* dtype = ecoformer::io::find_dtype(tensor.dtype);
    require(dtype != nullptr && tensor.shape.size() == tensor.strides.size());
    // In 128 bits no sum of the loop can overflow: a storage is smaller than the input.
    __extension__ using Wide = __int128;
    Wide elements = 1;
    Wide last = tensor.offset;
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      elements *= tensor.shape[i];
      if (elements > 0) last += Wide{tensor.shape[i] - 1} * tensor.strides[i];
    }
    const Wide room = Wide{index.storages.at(tensor.storage).bytes / dtype->bytes};
    require(elements <= room && tensor.offset >= 0 && (elements == 0 || last < room));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto index =
        ecoformer::io::parse_pth_index(std::as_bytes(std::span(data, size)), "input");
    check_storages(index, size);
    check_tensors(index);
  } catch (const ecoformer::InputError&) {
    // Refused, as it should be.
  }
  return 0;
}
