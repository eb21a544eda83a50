// Loads the storages that an index names and lays the tensors over them.
#include "ecoformer/io/pth.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <span>
#include <utility>

#include "ecoformer/io/pth_index.h"
#include "io/bytes.h"
#include "io/fail.h"
#include "io/open_file.h"
#include "io/scalar_type.h"

namespace ecoformer::io {
namespace {

/// The bytes of `storage` as a tensor of bytes.
at::Tensor load_storage(const PthStorage& storage, const ByteSource& source) {
  at::Tensor bytes = at::empty({static_cast<std::int64_t>(storage.bytes)}, at::kByte);
  const auto data = std::span(bytes.mutable_data_ptr<std::uint8_t>(), storage.bytes);
  source.read(storage.offset, std::as_writable_bytes(data));
  // Any other bool is undefined behaviour in C++.
  if (storage.dtype == "BOOL" &&
      std::any_of(data.begin(), data.end(), [](std::uint8_t value) { return value > 1; })) {
    fail(source.name(), "BOOL storages of bytes 0 and 1", "others");
  }
  return bytes;
}

TensorFile load(PthIndex index, const ByteSource& source) {
  TensorFile file{.tensors = {}, .metadata = std::move(index.metadata), .source = source.name()};
  std::map<std::size_t, at::Tensor> storages;
  for (const PthTensor& info : index.tensors) {
    at::Tensor& storage = storages[info.storage];
    if (!storage.defined()) storage = load_storage(index.storages[info.storage], source);
    at::Tensor tensor = at::empty({0}, scalar_type_of(info.dtype));
    tensor.set_(storage.storage(), info.offset, info.shape, info.strides);
    file.tensors.emplace(info.name, std::move(tensor));
  }
  std::string ignored;
  for (const PthIgnored& entry : index.ignored) {
    ignored += fmt::format("{}{} ({})", ignored.empty() ? "" : ", ", entry.name, entry.what);
  }
  if (!ignored.empty()) file.metadata["pth.ignored"] = std::move(ignored);
  return file;
}

}  // namespace

TensorFile read_pth(const std::filesystem::path& path) {
  // One stream for index and data: another process may replace the file meanwhile.
  std::ifstream stream = open_file(path);
  PthIndex index = read_pth_index(stream, path.string());
  return load(std::move(index), ByteSource(stream, path.string()));
}

TensorFile parse_pth(std::span<const std::byte> bytes, const std::string& source) {
  return load(parse_pth_index(bytes, source), ByteSource(bytes, source));
}

}  // namespace ecoformer::io
