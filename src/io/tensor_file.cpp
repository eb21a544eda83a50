// Formats are told apart by byte 8 first: there safetensors have the brace of their JSON, which
// files of torch.save never have, while their first bytes are a length that may be anything.
#include "ecoformer/io/tensor_file.h"

#include <array>
#include <string_view>

#include "ecoformer/io/pth.h"
#include "io/fail.h"
#include "io/open_file.h"

namespace ecoformer::io {

TensorFormat tensor_format(const std::filesystem::path& path) {
  std::ifstream stream = open_file(path);
  std::array<char, 9> bytes{};
  stream.read(bytes.data(), bytes.size());
  const std::string_view start(bytes.data(), static_cast<std::size_t>(stream.gcount()));
  if (start.size() == bytes.size() && start.back() == '{') return TensorFormat::kSafetensors;
  if (start.substr(0, 2) == "PK" || start.substr(0, 1) == "\x80") return TensorFormat::kPth;
  fail(path.string(), "a safetensors file or one of torch.save", "a start like neither");
}

TensorFile read_tensor_file(const std::filesystem::path& path) {
  return tensor_format(path) == TensorFormat::kPth ? read_pth(path) : read_safetensors(path);
}

}  // namespace ecoformer::io
