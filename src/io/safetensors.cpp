// Moves tensor data in and out of safetensors files; the header's rules are in
// safetensors_header.cpp. Data goes straight between the file and the tensors.
#include "ecoformer/io/safetensors.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "ecoformer/base/atomic_file.h"
#include "ecoformer/base/error.h"
#include "io/open_file.h"
#include "io/quote.h"
#include "io/scalar_type.h"

namespace ecoformer::io {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

/// Makes the tensors of `header`; `fill(offset, destination, bytes)` fetches their data.
template <typename Fill>
TensorFile load(SafetensorsHeader header, const std::string& source, const Fill& fill) {
  TensorFile file{.tensors = {}, .metadata = std::move(header.metadata), .source = source};
  for (const TensorInfo& info : header.tensors) {
    at::Tensor tensor = at::empty(info.shape, scalar_type_of(info.dtype));
    auto* data = static_cast<unsigned char*>(tensor.data_ptr());
    if (info.bytes > 0) fill(info.offset, data, info.bytes);
    // Any other bool is undefined behaviour in C++.
    if (info.dtype == "BOOL" &&
        std::any_of(data, data + info.bytes, [](unsigned char value) { return value > 1; })) {
      throw InputError(fmt::format("read {}: expected BOOL tensor {} of bytes 0 and 1, got others",
                                   source, quote(info.name)));
    }
    file.tensors.emplace(info.name, std::move(tensor));
  }
  return file;
}

struct Entry {
  const std::string* name;
  const at::Tensor* tensor;
  std::string_view dtype;
};

/// What to write in the order of writing: wide elements first, so that all data is aligned, and by
/// name among equals.
std::vector<Entry> ordered_entries(const std::filesystem::path& path, const TensorFile& file) {
  std::vector<Entry> entries;
  for (const auto& [name, tensor] : file.tensors) {
    const auto fail = [&, &tensor_name = name](const std::string& got) {
      throw InputError(
          fmt::format("write {}: expected a dense tensor of a safetensors dtype for {}"
                      ", got {}",
                      path.string(), quote(tensor_name), got));
    };
    if (name == "__metadata__") fail("a name that the format reserves");
    if (!tensor.defined()) fail("an undefined tensor");
    if (tensor.layout() != at::kStrided || tensor.is_quantized()) fail("another layout");
    const auto* type = std::find_if(
        kScalarTypes.begin(), kScalarTypes.end(),
        [&tensor = tensor](const auto& t) { return t.second == tensor.scalar_type(); });
    if (type == kScalarTypes.end()) fail(at::toString(tensor.scalar_type()));
    entries.push_back({&name, &tensor, type->first});
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.tensor->element_size() > b.tensor->element_size();
  });
  return entries;
}

std::string header_text(const std::filesystem::path& path, const std::vector<Entry>& entries,
                        const std::map<std::string, std::string>& metadata) {
  auto header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t end = 0;
  for (const Entry& entry : entries) {
    const std::uint64_t begin = end;
    end += entry.tensor->nbytes();
    header[*entry.name] = {{"dtype", entry.dtype},
                           {"shape", entry.tensor->sizes().vec()},
                           {"data_offsets", {begin, end}}};
  }
  try {
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    return text;
  } catch (const nlohmann::json::type_error&) {
    throw InputError(fmt::format("write {}: expected names and metadata in UTF-8, got other bytes",
                                 path.string()));
  }
}

std::string describe(std::optional<at::ScalarType> dtype, const std::string& shape) {
  return dtype ? fmt::format("{} {}", at::toString(*dtype), shape) : shape;
}

}  // namespace

TensorFile read_safetensors(const std::filesystem::path& path) {
  // One stream for header and data: another process may replace the file meanwhile.
  std::ifstream stream = open_file(path);
  const std::string source = path.string();
  SafetensorsHeader header = read_safetensors_header(stream, source);
  return load(std::move(header), source,
              [&](std::uint64_t offset, unsigned char* destination, std::uint64_t bytes) {
                stream.seekg(static_cast<std::streamoff>(offset));
                stream.read(reinterpret_cast<char*>(destination),
                            static_cast<std::streamsize>(bytes));
                if (!stream) {
                  throw InputError(fmt::format("read {}: expected {} bytes at byte {}, got fewer",
                                               source, bytes, offset));
                }
              });
}

TensorFile parse_safetensors(std::span<const std::byte> bytes, const std::string& source) {
  return load(parse_safetensors_header(bytes, bytes.size(), source), source,
              [&](std::uint64_t offset, unsigned char* destination, std::uint64_t size) {
                std::memcpy(destination, bytes.data() + offset, size);
              });
}

void write_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  const std::vector<Entry> entries = ordered_entries(path, file);
  const std::string header = header_text(path, entries, file.metadata);
  write_atomically(path, [&](std::ostream& stream) {
    const std::uint64_t length = header.size();
    stream.write(reinterpret_cast<const char*>(&length), sizeof length);
    stream.write(header.data(), static_cast<std::streamsize>(header.size()));
    for (const Entry& entry : entries) {
      // A conjugate or negative view holds the bits of its base until it is resolved.
      const at::Tensor tensor =
          entry.tensor->detach().cpu().resolve_conj().resolve_neg().contiguous();
      stream.write(static_cast<const char*>(tensor.const_data_ptr()),
                   static_cast<std::streamsize>(tensor.nbytes()));
    }
  });
}

at::Tensor take(const TensorFile& file, const std::string& name,
                std::optional<at::ScalarType> dtype,
                const std::optional<std::vector<std::int64_t>>& shape) {
  const std::string source = file.source.empty() ? "tensors" : file.source;
  const auto found = file.tensors.find(name);
  if (found == file.tensors.end()) {
    throw InputError(
        fmt::format("read {}: expected a tensor {}, got none of that name", source, quote(name)));
  }
  const at::Tensor& tensor = found->second;
  const at::IntArrayRef sizes = tensor.sizes();
  const auto matches = [](std::int64_t wanted, std::int64_t size) {
    return wanted == -1 || wanted == size;
  };
  const bool shape_fits =
      !shape || std::equal(shape->begin(), shape->end(), sizes.begin(), sizes.end(), matches);
  if (!shape_fits || (dtype && *dtype != tensor.scalar_type())) {
    std::string wanted;
    if (shape) wanted = fmt::format("[{}]", fmt::join(*shape, ", "));
    throw InputError(fmt::format(
        "read {}: expected tensor {} as {}, got {}", source, quote(name), describe(dtype, wanted),
        describe(tensor.scalar_type(), fmt::format("[{}]", fmt::join(sizes, ", ")))));
  }
  return tensor;
}

}  // namespace ecoformer::io
