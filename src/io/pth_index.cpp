// From either layout to pickle and storages, and from the pickle to tensors by name. Everything the
// file claims about places and sizes is checked here.
#include "ecoformer/io/pth_index.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "ecoformer/base/error.h"
#include "ecoformer/io/key_map.h"
#include "ecoformer/io/pickle.h"
#include "io/bytes.h"
#include "io/dtype.h"
#include "io/fail.h"
#include "io/open_file.h"
#include "io/quote.h"
#include "io/zip_directory.h"

namespace ecoformer::io {
namespace {

using Kind = PickleKind;

constexpr std::uint64_t kLongestPickle = std::uint64_t{64} << 20;
constexpr std::size_t kDeepestNesting = 32;
constexpr std::size_t kLongestName = 512;
constexpr std::array<std::string_view, 5> kStateKeys{"model", "state_dict", "model_state_dict",
                                                     "model_ema", "state_dict_ema"};
constexpr std::int64_t kLegacyProtocol = 1001;
/// 0x1950A86A20F9469CFC6C, little-endian.
constexpr std::string_view kLegacyMagic("\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19", 10);

/// A pickle and where the data of its storages lies.
struct Archive {
  std::string layout;
  Pickle pickle;
  std::vector<PthStorage> storages;  ///< in the order of the pickle's
};

const PickleValue* find(const Pickle& pickle, const PickleValue& dict, std::string_view key) {
  for (std::size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& candidate = pickle.values[dict.items[i]];
    if (candidate.kind == Kind::kString && candidate.text == key) {
      return &pickle.values[dict.items[i + 1]];
    }
  }
  return nullptr;
}

// ---- ZIP layout ----

std::vector<std::byte> content_of(const ByteSource& source, const std::string& name,
                                  const ZipEntry& entry) {
  const ByteRange range = locate(source, name, entry);
  if (range.bytes > kLongestPickle) {
    fail(source.name(), fmt::format("{} of at most {} bytes", quote(name), kLongestPickle),
         fmt::format("{}", range.bytes));
  }
  std::vector<std::byte> content(range.bytes);
  source.read(range.offset, content);
  return content;
}

/// Overlapping storages would let a small file claim any amount of memory.
void check_disjoint(const ByteSource& source, const std::vector<PthStorage>& storages) {
  std::vector<ByteRange> ranges;
  for (const PthStorage& storage : storages) {
    if (storage.bytes > 0) ranges.push_back({storage.offset, storage.bytes});
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.offset < b.offset; });
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].offset - ranges[i - 1].offset < ranges[i - 1].bytes) {
      fail(source.name(), "storages side by side",
           fmt::format("an overlap at byte {}", ranges[i].offset));
    }
  }
}

Archive read_zip(const ByteSource& source) {
  constexpr std::string_view kPickleName = "/data.pkl";
  const std::map<std::string, ZipEntry> entries = read_zip_directory(source);
  std::optional<std::string> stem;
  for (const auto& [name, entry] : entries) {
    if (name.size() < kPickleName.size() ||
        name.compare(name.size() - kPickleName.size(), std::string::npos, kPickleName) != 0) {
      continue;
    }
    if (stem) fail(source.name(), "one entry '*/data.pkl'", "two");
    stem = name.substr(0, name.size() - kPickleName.size());
  }
  if (!stem) fail(source.name(), "a ZIP file of torch.save, with an entry '*/data.pkl'", "none");

  const auto byte_order = entries.find(*stem + "/byteorder");
  if (byte_order != entries.end()) {
    const std::vector<std::byte> content =
        content_of(source, byte_order->first, byte_order->second);
    const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
    if (text != "little") fail(source.name(), "little-endian data", quote(text));
  }

  const auto pickle = entries.find(*stem + std::string(kPickleName));
  Archive archive{
      .layout = "zip",
      .pickle = parse_pickle(content_of(source, pickle->first, pickle->second), source.name()),
      .storages = {}};
  for (const PickleStorage& storage : archive.pickle.storages) {
    const std::string name = *stem + "/data/" + storage.key;
    const auto entry = entries.find(name);
    if (entry == entries.end()) fail(source.name(), "a ZIP entry " + quote(name), "none");
    const ByteRange range = locate(source, name, entry->second);
    if (range.bytes != storage.bytes) {
      fail(source.name(), fmt::format("{} bytes of storage {}", storage.bytes, quote(storage.key)),
           fmt::format("{}", range.bytes));
    }
    archive.storages.push_back({storage.dtype, range.offset, range.bytes});
  }
  check_disjoint(source, archive.storages);
  return archive;
}

// ---- Older layout ----

/// Magic number, protocol and system information precede the object.
void check_legacy_start(const ByteSource& source, const Pickle& magic, const Pickle& protocol,
                        const Pickle& system) {
  const PickleValue& number = magic.values[magic.root];
  if (number.kind != Kind::kBigInteger || number.text != kLegacyMagic) {
    fail(source.name(), "a file of torch.save", "a pickle without its magic number");
  }
  const PickleValue& version = protocol.values[protocol.root];
  if (version.kind != Kind::kInteger || version.integer != kLegacyProtocol) {
    fail(source.name(), fmt::format("protocol {} of torch.save", kLegacyProtocol), "another");
  }
  const PickleValue& information = system.values[system.root];
  const PickleValue* little =
      information.kind == Kind::kDict ? find(system, information, "little_endian") : nullptr;
  if (little == nullptr || little->kind != Kind::kBool || little->integer == 0) {
    fail(source.name(), "little-endian data", "another byte order");
  }
}

Archive read_legacy(const ByteSource& source) {
  std::vector<std::byte> start(std::min(source.size(), kLongestPickle));
  source.read(0, start);
  std::uint64_t position = 0;
  const auto next_pickle = [&] {
    Pickle pickle =
        parse_pickle(std::span<const std::byte>(start).subspan(position), source.name());
    position += pickle.bytes;
    return pickle;
  };
  const Pickle magic = next_pickle();
  const Pickle protocol = next_pickle();
  const Pickle system = next_pickle();
  check_legacy_start(source, magic, protocol, system);
  Archive archive{.layout = "legacy", .pickle = next_pickle(), .storages = {}};
  const Pickle keys = next_pickle();

  // Each storage follows as its element count and its data, in the order of the keys.
  const std::vector<PickleStorage>& storages = archive.pickle.storages;
  std::map<std::string_view, std::size_t> places;
  for (std::size_t i = 0; i < storages.size(); ++i) places.emplace(storages[i].key, i);
  archive.storages.resize(storages.size());
  const PickleValue& list = keys.values[keys.root];
  if (list.kind != Kind::kList) fail(source.name(), "a list of storages", "something else");
  for (const PickleRef ref : list.items) {
    const PickleValue& key = keys.values[ref];
    const auto place = places.find(key.text);
    if (key.kind != Kind::kString || place == places.end()) {
      fail(source.name(), "a list of the pickle's storages, each once", quote(key.text));
    }
    const PickleStorage& storage = storages[place->second];
    const Dtype* dtype = find_dtype(storage.dtype);
    const std::uint64_t expected = storage.bytes / (dtype == nullptr ? 1 : dtype->bytes);
    std::array<std::byte, sizeof expected> field{};
    source.read(position, field);
    position += field.size();
    const auto count = load<std::uint64_t>(field.data());
    if (count != expected) {
      fail(source.name(), fmt::format("{} elements of storage {}", expected, quote(storage.key)),
           fmt::format("{}", count));
    }
    if (storage.bytes > source.size() - position) {
      fail(source.name(), fmt::format("{} bytes of storage {}", storage.bytes, quote(storage.key)),
           fmt::format("only {}", source.size() - position));
    }
    archive.storages[place->second] = {storage.dtype, position, storage.bytes};
    position += storage.bytes;
    places.erase(place);
  }
  if (!places.empty()) {
    fail(source.name(), "the data of storage " + quote(places.begin()->first), "none");
  }
  if (position != source.size()) {
    fail(source.name(), fmt::format("{} bytes", position), fmt::format("{}", source.size()));
  }
  return archive;
}

// ---- Tensors by name ----

/// A value in a few words.
std::string describe(const PickleValue& value) {
  const auto counted = [](std::string_view what, std::size_t count) {
    return fmt::format("a {} of {}", what, count);
  };
  switch (value.kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.integer != 0 ? "True" : "False";
    case Kind::kInteger:
      return fmt::format("{}", value.integer);
    case Kind::kBigInteger:
      return fmt::format("an integer of {} bytes", value.text.size());
    case Kind::kFloat:
      return fmt::format("{}", value.real);
    case Kind::kString:
      return quote(value.text);
    case Kind::kBytes:
      return fmt::format("{} bytes", value.text.size());
    case Kind::kList:
      return counted("list", value.items.size());
    case Kind::kTuple:
      return counted("tuple", value.items.size());
    case Kind::kDict:
      return counted("dictionary", value.items.size() / 2);
    case Kind::kStorage:
      return "a storage";
    case Kind::kTensor:
      return "a tensor";
    case Kind::kGlobal:
      return value.text;
    case Kind::kObject:
      break;
  }
  return "an object of " + value.text;
}

/// A value that is short text by itself, or nothing.
std::optional<std::string> plain_text(const PickleValue& value) {
  switch (value.kind) {
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInteger:
    case Kind::kFloat:
      return describe(value);
    case Kind::kString:
      if (value.text.size() <= kLongestName) return value.text;
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

class Indexer {
 public:
  Indexer(const Archive& archive, const std::string& file) : pickle_(archive.pickle), file_(file) {
    index_.storages = archive.storages;
    index_.metadata["pth.layout"] = archive.layout;
  }

  PthIndex run() {
    const PickleValue& root = pickle_.values[pickle_.root];
    if (root.kind != Kind::kDict) {
      throw InputError(
          fmt::format("read {}: expected a dictionary of tensors, got {}\nhint: save the "
                      "state_dict of the model",
                      file_, describe(root)));
    }
    const std::optional<std::string_view> state_key = find_state(root);
    if (state_key) {
      index_.metadata["pth.state"] = *state_key;
      add_wrapper(root, *state_key);
    } else {
      flatten(pickle_.root, "", 0);
    }
    strip_module_prefix();
    return std::move(index_);
  }

 private:
  std::optional<std::string_view> find_state(const PickleValue& root) const {
    for (const std::string_view key : kStateKeys) {
      const PickleValue* value = find(pickle_, root, key);
      if (value != nullptr && value->kind == Kind::kDict) return key;
    }
    return std::nullopt;
  }

  /// `prefix` and the key `ref` as one name, which must be new to `names`.
  std::string claim(const std::string& prefix, PickleRef ref, std::set<std::string>& names) const {
    const PickleValue& key = pickle_.values[ref];
    if (key.kind != Kind::kString && key.kind != Kind::kInteger) {
      fail(file_, "dictionaries with text or integers for keys",
           describe(key) + (prefix.empty() ? "" : " in " + quote(prefix)));
    }
    // Cut before anything is built from it: many names may share one long key.
    if (prefix.size() + key.text.size() > kLongestName) {
      fail(file_, fmt::format("names of at most {} bytes", kLongestName),
           quote(prefix + key.text.substr(0, kLongestName)));
    }
    std::string name = prefix + (key.kind == Kind::kString ? key.text : describe(key));
    if (!names.insert(name).second) fail(file_, "each name once", quote(name) + " twice");
    return name;
  }

  /// The file's own dictionary, when the state is one of its values.
  void add_wrapper(const PickleValue& root, std::string_view state_key) {
    std::set<std::string> keys;
    std::string all;
    for (std::size_t i = 0; i < root.items.size(); i += 2) {
      const PickleValue& value = pickle_.values[root.items[i + 1]];
      const std::string key = claim("", root.items[i], keys);
      all += (all.empty() ? "" : ", ") + key;
      if (key == state_key) {
        flatten(root.items[i + 1], "", 0);
      } else if (const std::optional<std::string> text = plain_text(value)) {
        index_.metadata["pth.entry." + key] = *text;
      } else {
        index_.ignored.push_back({key, describe(value)});
      }
    }
    index_.metadata["pth.keys"] = all;
  }

  void flatten(PickleRef ref, const std::string& prefix, std::size_t depth) {
    if (depth == kDeepestNesting) {
      fail(file_, fmt::format("dictionaries nested at most {} deep", kDeepestNesting),
           quote(prefix));
    }
    // One within itself would never end; one used twice at each level doubles the names each time.
    if (!entered_.insert(ref).second) {
      fail(file_, "a tree of dictionaries", quote(prefix) + " in a second place");
    }
    const std::vector<PickleRef>& items = pickle_.values[ref].items;
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const PickleValue& value = pickle_.values[items[i + 1]];
      const std::string name = claim(prefix, items[i], names_);
      if (value.kind == Kind::kTensor) {
        add_tensor(name, value);
      } else if (value.kind == Kind::kDict && !value.items.empty()) {
        flatten(items[i + 1], name + ".", depth + 1);
      } else {
        index_.ignored.push_back({name, describe(value)});
      }
    }
  }

  std::vector<std::int64_t> integers(PickleRef tuple) const {
    std::vector<std::int64_t> numbers;
    for (const PickleRef item : pickle_.values[tuple].items) {
      numbers.push_back(pickle_.values[item].integer);
    }
    return numbers;
  }

  void add_tensor(const std::string& name, const PickleValue& value) {
    PthTensor tensor{.name = name,
                     .dtype = value.text,
                     .shape = integers(value.items[2]),
                     .strides = integers(value.items[3]),
                     .offset = pickle_.values[value.items[1]].integer,
                     .storage = static_cast<std::size_t>(pickle_.values[value.items[0]].integer)};
    const std::uint64_t width = find_dtype(tensor.dtype)->bytes;
    const std::uint64_t elements = index_.storages[tensor.storage].bytes / width;
    const auto refuse = [&](const std::string& expected) {
      fail(file_, fmt::format("tensor {} {}", quote(name), expected),
           fmt::format("shape [{}], strides [{}], offset {}", fmt::join(tensor.shape, ", "),
                       fmt::join(tensor.strides, ", "), tensor.offset));
    };
    const std::optional<std::uint64_t> bytes = dense_bytes(tensor.shape, width);
    if (!bytes || *bytes / width > elements) {
      refuse(fmt::format("of at most the {} elements of its storage", elements));
    }
    // The last element, by steps that cannot overflow: each is checked before it is added.
    auto last = static_cast<std::uint64_t>(tensor.offset);
    bool is_inside = *bytes == 0 ? last <= elements : last < elements;
    for (std::size_t i = 0; *bytes > 0 && is_inside && i < tensor.shape.size(); ++i) {
      const auto steps = static_cast<std::uint64_t>(tensor.shape[i] - 1);
      const auto stride = static_cast<std::uint64_t>(tensor.strides[i]);
      is_inside = stride == 0 || steps <= (elements - 1 - last) / stride;
      if (is_inside) last += steps * stride;
    }
    if (!is_inside) refuse(fmt::format("within the {} elements of its storage", elements));
    index_.tensors.push_back(std::move(tensor));
  }

  void strip_module_prefix() {
    const auto stripped = [](const auto& item) { return without_module_prefix(item.name); };
    const bool all_have_it =
        !index_.tensors.empty() &&
        std::all_of(index_.tensors.begin(), index_.tensors.end(),
                    [&](const PthTensor& t) { return stripped(t).size() < t.name.size(); });
    if (!all_have_it) return;
    for (PthTensor& tensor : index_.tensors) tensor.name = std::string(stripped(tensor));
    index_.metadata["pth.prefix"] = "module.";
  }

  const Pickle& pickle_;
  const std::string& file_;
  PthIndex index_{};
  std::set<std::string> names_;
  std::set<PickleRef> entered_;
};

PthIndex index_of(const ByteSource& source) {
  std::array<std::byte, 4> magic{};
  source.read(0, std::span(magic).first(std::min<std::uint64_t>(source.size(), magic.size())));
  if (magic[0] != std::byte{'P'} && magic[0] != std::byte{0x80}) {
    fail(source.name(), "a file of torch.save", "neither a ZIP file nor a pickle");
  }
  const Archive archive = magic[0] == std::byte{'P'} ? read_zip(source) : read_legacy(source);
  return Indexer(archive, source.name()).run();
}

}  // namespace

PthIndex parse_pth_index(std::span<const std::byte> bytes, const std::string& file) {
  return index_of(ByteSource(bytes, file));
}

PthIndex read_pth_index(std::istream& stream, const std::string& file) {
  return index_of(ByteSource(stream, file));
}

PthIndex read_pth_index(const std::filesystem::path& path) {
  std::ifstream stream = open_file(path);
  return read_pth_index(stream, path.string());
}

}  // namespace ecoformer::io
