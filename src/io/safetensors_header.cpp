// The header is parsed event by event into its fixed structure: anything else, nesting included, is
// refused where it appears, before it is stored.
#include "ecoformer/io/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "io/dtype.h"
#include "io/fail.h"
#include "io/open_file.h"
#include "io/quote.h"

namespace ecoformer::io {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kLongestHeader = 100'000'000;
constexpr std::string_view kMetadataKey = "__metadata__";

/// Receives the events of the JSON parser. Byte offsets count from the start of the data.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const std::string& file, SafetensorsHeader& header) : file_(file), header_(header) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    unexpected("a number that is no integer of 64 bits");
  }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        unexpected("a dimension of more than 63 bits");
      }
      if (info_.shape.size() == kMostDimensions) {
        unexpected(fmt::format("more than {} dimensions", kMostDimensions));
      }
      info_.shape.push_back(static_cast<std::int64_t>(value));
    } else if (place_ == Place::kOffsets) {
      if (offset_count_ == offsets_.size()) unexpected("a third number");
      offsets_[offset_count_++] = value;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = std::move(value);
    } else if (place_ == Place::kTensor && key_ == "dtype") {
      info_.dtype = std::move(value);
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kDocument) {
      place_ = Place::kRoot;
    } else if (place_ == Place::kRoot && key_ == kMetadataKey) {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kRoot) {
      place_ = Place::kTensor;
      info_ = {.name = key_, .dtype = {}, .shape = {}};
      offset_count_ = 0;
      fields_.clear();
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& key) override {
    std::set<std::string>& seen = place_ == Place::kRoot       ? names_
                                  : place_ == Place::kMetadata ? metadata_keys_
                                                               : fields_;
    if (place_ == Place::kTensor && key != "dtype" && key != "shape" && key != "data_offsets") {
      unexpected("the key " + quote(key));
    }
    if (!seen.insert(key).second) {
      fail(file_, "each key once", "the key " + quote(key) + " twice");
    }
    key_ = std::move(key);
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      if (fields_.size() != 3) {
        unexpected(fmt::format("only {}", fields_.empty() ? "{}" : fmt::format("{}", fields_)));
      }
      check_size();
      header_.tensors.push_back(std::move(info_));
    }
    place_ = place_ == Place::kRoot ? Place::kDocument : Place::kRoot;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || key_ == "dtype") unexpected("an array");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offset_count_ != offsets_.size()) {
      unexpected(fmt::format("{} numbers", offset_count_));
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    fail(file_, "a header of JSON in UTF-8",
         fmt::format("an error at byte {} of the header", position));
  }

 private:
  enum class Place { kDocument, kRoot, kMetadata, kTensor, kShape, kOffsets };

  std::string tensor() const { return "tensor " + quote(info_.name); }

  [[noreturn]] void unexpected(const std::string& got) const {
    switch (place_) {
      case Place::kDocument:
        fail(file_, "a header that is one JSON object", got);
      case Place::kRoot:
        fail(file_, "an object for the key " + quote(key_), got);
      case Place::kMetadata:
        fail(file_, "a string for the metadata " + quote(key_), got);
      case Place::kTensor:
        fail(file_, tensor() + " with the keys dtype (a string), shape and data_offsets (arrays)",
             got);
      case Place::kShape:
        fail(file_, tensor() + " with a shape of at most 64 non-negative integers", got);
      case Place::kOffsets:
        break;
    }
    fail(file_, tensor() + " with data_offsets of two non-negative integers", got);
  }

  /// Checks what concerns one tensor alone: dtype, element count, order of its offsets.
  void check_size() {
    const Dtype* dtype = find_dtype(info_.dtype);
    if (dtype == nullptr) {
      std::string known;
      for (const Dtype& candidate : kDtypes) {
        known += known.empty() ? "" : ", ";
        known += candidate.name;
      }
      fail(file_, fmt::format("{} with a dtype among {}", tensor(), known), quote(info_.dtype));
    }
    const auto [begin, end] = offsets_;
    if (begin > end) {
      fail(file_, tensor() + " with data_offsets [begin, end], begin <= end",
           fmt::format("[{}, {}]", begin, end));
    }
    const std::optional<std::uint64_t> bytes = dense_bytes(info_.shape, dtype->bytes);
    if (!bytes) {
      fail(file_, tensor() + " of fewer than 2^63 bytes",
           fmt::format("shape [{}]", fmt::join(info_.shape, ", ")));
    }
    if (end - begin != *bytes) {
      fail(file_,
           fmt::format("{} of {} bytes ({} [{}])", tensor(), *bytes, info_.dtype,
                       fmt::join(info_.shape, ", ")),
           fmt::format("data_offsets [{}, {}] of {} bytes", begin, end, end - begin));
    }
    info_.offset = begin;
    info_.bytes = *bytes;
  }

  const std::string& file_;
  SafetensorsHeader& header_;
  Place place_ = Place::kDocument;
  std::string key_;
  std::set<std::string> names_;
  std::set<std::string> metadata_keys_;
  std::set<std::string> fields_;
  TensorInfo info_;
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t offset_count_ = 0;
};

/// Sorts the tensors by place, checks that they tile the data, and makes the offsets absolute.
void check_tiling(SafetensorsHeader& header, std::uint64_t data_begin, std::uint64_t data_bytes,
                  const std::string& file) {
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) {
              return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
            });
  std::uint64_t end = 0;
  for (TensorInfo& info : header.tensors) {
    if (info.offset != end) {
      fail(file, fmt::format("tensor {} to begin at byte {} of the data", quote(info.name), end),
           fmt::format("{} at byte {}", info.offset < end ? "an overlap" : "a hole", info.offset));
    }
    if (info.bytes > data_bytes - end) {
      fail(file, fmt::format("{} bytes of data for tensor {}", end + info.bytes, quote(info.name)),
           fmt::format("only {}", data_bytes));
    }
    end += info.bytes;
    info.offset += data_begin;
  }
  if (end != data_bytes) {
    fail(file, fmt::format("{} bytes of data", end),
         fmt::format("{} bytes more at the end", data_bytes - end));
  }
}

}  // namespace

std::uint64_t safetensors_data_begin(std::span<const std::byte> start, std::uint64_t file_bytes,
                                     const std::string& file) {
  if (file_bytes < kLengthBytes || start.size() < kLengthBytes) {
    fail(file, "a safetensors file",
         fmt::format("{} bytes, less than its first field", file_bytes));
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) {
    length = length << 8 | std::to_integer<std::uint64_t>(start[i]);
  }
  if (length == 0) fail(file, "a safetensors header", "a header of 0 bytes");
  if (length > kLongestHeader) {
    fail(file, fmt::format("a safetensors header of at most {} bytes", kLongestHeader),
         fmt::format("{}", length));
  }
  if (length > file_bytes - kLengthBytes) {
    fail(file, fmt::format("a safetensors header of {} bytes", length),
         fmt::format("a file that ends after {}", file_bytes - kLengthBytes));
  }
  return kLengthBytes + length;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> start,
                                           std::uint64_t file_bytes, const std::string& file) {
  const std::uint64_t data_begin = safetensors_data_begin(start, file_bytes, file);
  const auto* text = reinterpret_cast<const char*>(start.data());
  if (text[kLengthBytes] != '{') {
    fail(file, "a safetensors header that begins with '{'",
         quote(std::string_view(text + kLengthBytes, 1)));
  }
  SafetensorsHeader header;
  HeaderReader reader(file, header);
  nlohmann::json::sax_parse(text + kLengthBytes, text + data_begin, &reader);
  check_tiling(header, data_begin, file_bytes - data_begin, file);
  return header;
}

SafetensorsHeader read_safetensors_header(std::istream& stream, const std::string& file) {
  stream.seekg(0, std::ios::end);
  const auto file_bytes = static_cast<std::uint64_t>(std::max<std::streamoff>(stream.tellg(), 0));
  stream.seekg(0);
  std::vector<std::byte> start(std::min(file_bytes, kLengthBytes));
  const auto read_from = [&](std::uint64_t known) {
    stream.read(reinterpret_cast<char*>(start.data() + known),
                static_cast<std::streamsize>(start.size() - known));
    if (!stream) fail(file, fmt::format("a file of {} bytes", file_bytes), "a failed read");
  };
  read_from(0);
  start.resize(safetensors_data_begin(start, file_bytes, file));
  read_from(kLengthBytes);
  return parse_safetensors_header(start, file_bytes, file);
}

SafetensorsHeader read_safetensors_header(const std::filesystem::path& path) {
  std::ifstream stream = open_file(path);
  return read_safetensors_header(stream, path.string());
}

std::vector<TensorInfo> list_safetensors(const std::filesystem::path& path) {
  return read_safetensors_header(path).tensors;
}

}  // namespace ecoformer::io
