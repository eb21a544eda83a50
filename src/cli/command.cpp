// Checks that several commands make before they start.

#include "command.h"

#include <ATen/ops/isfinite.h>
#include <ATen/ops/nonzero.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "ecoformer/base/error.h"

namespace ecoformer::cli {
namespace {

namespace fs = std::filesystem;

/// Creating a file is the only question that also a full disk and a read-only mount answer truly.
void check_can_create_in(const std::string& flag, const fs::path& folder) {
  std::string name = (folder / ".ecoformer-XXXXXX").string();
  const int file = mkstemp(name.data());
  if (file < 0) {
    throw Error(fmt::format("{}: expected a folder that files can be written to, got '{}': {}",
                            flag, folder.string(), std::strerror(errno)));
  }
  close(file);
  unlink(name.c_str());
}

}  // namespace

CLI::IsMember one_of(std::vector<std::string> names) {
  return CLI::IsMember(std::move(names));
}

void check_writable_file(const std::string& flag, const fs::path& path) {
  if (fs::is_directory(path)) {
    throw InputError(
        fmt::format("{}: expected a file to write, got the folder '{}'", flag, path.string()));
  }
  check_can_create_in(flag, path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void check_writable_folder(const std::string& flag, const fs::path& path) {
  fs::path existing = fs::absolute(path);
  while (!fs::exists(existing)) existing = existing.parent_path();
  check_can_create_in(flag, existing);
}

void require(const std::string& flag, const std::string& value) {
  if (value.empty()) throw InputError(fmt::format("{}: expected a value, got none", flag));
}

void check_finite(const io::TensorFile& file, const std::string& name, const at::Tensor& tensor) {
  const at::Tensor bad = at::isfinite(tensor).logical_not_();
  if (!bad.any().item<bool>()) return;
  const at::Tensor first = bad.nonzero()[0].contiguous();
  at::Tensor value = tensor;
  for (std::int64_t d = 0; d < first.size(0); ++d) value = value[first[d].item<std::int64_t>()];
  throw InputError(fmt::format(
      "{}: expected finite values in tensor '{}', got {} at {}", file.source, name,
      value.item<double>(),
      shape_text({first.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(first.size(0))})));
}

std::string shape_text(at::IntArrayRef shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace ecoformer::cli
