// A stack machine that builds values and calls nothing. Values live in one array and refer to each
// other by number, so that no pickle, however nested or circular, costs recursion or copies.
#include "ecoformer/io/pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

#include "io/bytes.h"
#include "io/dtype.h"
#include "io/fail.h"
#include "io/quote.h"
#include "io/utf8.h"

namespace ecoformer::io {
namespace {

using Kind = PickleKind;

constexpr std::size_t kMostValues = std::size_t{1} << 21;
constexpr std::size_t kLongestKey = 100;
constexpr std::uint64_t kMostStorageBytes = std::numeric_limits<std::int64_t>::max();

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kRebuildTensor2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildTensor3 = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kRebuildParameterWithState =
    "torch._utils._rebuild_parameter_with_state";

struct Global {
  std::string_view name;
  std::string_view dtype;
};

constexpr std::array<Global, 13> kStorageClasses{{{"torch.FloatStorage", "F32"},
                                                  {"torch.DoubleStorage", "F64"},
                                                  {"torch.HalfStorage", "F16"},
                                                  {"torch.BFloat16Storage", "BF16"},
                                                  {"torch.LongStorage", "I64"},
                                                  {"torch.IntStorage", "I32"},
                                                  {"torch.ShortStorage", "I16"},
                                                  {"torch.CharStorage", "I8"},
                                                  {"torch.ByteStorage", "U8"},
                                                  {"torch.BoolStorage", "BOOL"},
                                                  {"torch.ComplexFloatStorage", "C64"},
                                                  {"torch.storage.UntypedStorage", ""},
                                                  {"torch.UntypedStorage", ""}}};

/// The dtypes that have no storage class; torch keeps their tensors in untyped storages.
constexpr std::array<Global, 5> kUntypedDtypes{{{"torch.uint16", "U16"},
                                                {"torch.uint32", "U32"},
                                                {"torch.uint64", "U64"},
                                                {"torch.float8_e5m2", "F8_E5M2"},
                                                {"torch.float8_e4m3fn", "F8_E4M3"}}};

/// Names that stand for data alone, module by module; what they would make becomes a kObject.
struct DataModule {
  std::string_view module;
  std::string_view names;  ///< separated by single spaces
};
constexpr std::string_view kBuiltins =
    "bool bytearray bytes complex dict float frozenset int list long object range set slice str "
    "tuple unicode xrange";
constexpr std::string_view kPaths =
    "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath";
constexpr std::string_view kMultiarray = "_reconstruct scalar";
constexpr std::array<DataModule, 20> kDataModules{
    {{"__builtin__", kBuiltins},
     {"builtins", kBuiltins},
     {"_codecs", "encode"},
     {"argparse", "Namespace"},
     {"collections", "Counter defaultdict deque"},
     {"copy_reg", "_reconstructor"},
     {"copyreg", "_reconstructor"},
     {"datetime", "date datetime time timedelta timezone"},
     {"decimal", "Decimal"},
     {"numpy", "dtype ndarray"},
     {"numpy.core.multiarray", kMultiarray},
     {"numpy._core.multiarray", kMultiarray},
     {"numpy.core.numeric", "_frombuffer"},
     {"numpy._core.numeric", "_frombuffer"},
     {"pathlib", kPaths},
     {"pathlib._local", kPaths},
     {"torch",
      "Size bfloat16 bool complex128 complex64 device double float float16 float32 float64 half "
      "int int16 int32 int64 int8 long short uint8"},
     {"types", "SimpleNamespace"},
     {"uuid", "UUID"},
     {"yacs.config", "CfgNode"}}};

template <std::size_t kSize>
const Global* find_global(const std::array<Global, kSize>& globals, std::string_view name) {
  const auto* found = std::find_if(globals.begin(), globals.end(), [name](const Global& candidate) {
    return candidate.name == name;
  });
  return found == globals.end() ? nullptr : found;
}

bool is_data(std::string_view module, std::string_view name) {
  return std::any_of(kDataModules.begin(), kDataModules.end(), [&](const DataModule& data) {
    if (data.module != module) return false;
    std::string_view rest = data.names;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(' '), rest.size());
      if (rest.substr(0, end) == name) return true;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return false;
  });
}

bool is_allowed(std::string_view module, std::string_view name, std::string_view full) {
  return full == kOrderedDict || full == kRebuildTensor2 || full == kRebuildTensor3 ||
         full == kRebuildParameter || full == kRebuildParameterWithState ||
         find_global(kStorageClasses, full) != nullptr ||
         find_global(kUntypedDtypes, full) != nullptr || is_data(module, name);
}

enum Opcode : unsigned char {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersistentId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kDict = 'd',
  kEmptyDict = '}',
  kProto = 0x80,
  kNewObject = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8A,
  kLong4 = 0x8B,
  kShortBinUnicode = 0x8C,
  kBinUnicode8 = 0x8D,
  kBinBytes8 = 0x8E,
  kEmptySet = 0x8F,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjectEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96
};

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, const std::string& file)
      : bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()), file_(file) {}

  Pickle run() {
    if (number<unsigned char>() != kProto) refuse("a pickle of protocol 2 to 5", "no PROTO opcode");
    const auto protocol = number<unsigned char>();
    if (protocol < 2 || protocol > 5) {
      refuse("a pickle of protocol 2 to 5", fmt::format("protocol {}", protocol));
    }
    for (;;) {
      const auto opcode = number<unsigned char>();
      if (opcode == kStop) break;
      step(opcode);
    }
    pickle_.root = pop();
    pickle_.bytes = position_;
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void refuse(const std::string& expected, const std::string& got) const {
    fail(file_, expected, fmt::format("{} before byte {} of the pickle", got, position_));
  }

  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - position_) {
      fail(file_, fmt::format("{} bytes at byte {} of the pickle", count, position_),
           fmt::format("only {}", bytes_.size() - position_));
    }
    const std::string_view taken = bytes_.substr(position_, count);
    position_ += count;
    return taken;
  }

  template <typename T>
  T number() {
    return load<T>(take(sizeof(T)).data());
  }

  std::string_view line() {
    const std::size_t end = bytes_.find('\n', position_);
    if (end == std::string_view::npos) refuse("a line", "no end of it");
    const std::string_view text = take(end - position_);
    take(1);
    return text;
  }

  void push(PickleValue value) {
    if (pickle_.values.size() == kMostValues) {
      refuse(fmt::format("at most {} values", kMostValues), "more");
    }
    stack_.push_back(static_cast<PickleRef>(pickle_.values.size()));
    pickle_.values.push_back(std::move(value));
  }
  void push(Kind kind, std::int64_t integer) {
    PickleValue value{.kind = kind};
    value.integer = integer;
    push(std::move(value));
  }
  void push(Kind kind, std::string_view text) { push({.kind = kind, .text = std::string(text)}); }
  void push(Kind kind, std::vector<PickleRef> items = {}) {
    push({.kind = kind, .items = std::move(items)});
  }

  PickleRef top() const {
    if (stack_.size() == (marks_.empty() ? 0 : marks_.back())) refuse("a value", "none");
    return stack_.back();
  }
  PickleRef pop() {
    const PickleRef value = top();
    stack_.pop_back();
    return value;
  }
  std::vector<PickleRef> pop(std::size_t count) {
    std::vector<PickleRef> values(count);
    while (count-- > 0) values[count] = pop();
    return values;
  }
  std::vector<PickleRef> pop_to_mark() {
    if (marks_.empty()) refuse("a mark", "none");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleRef> values(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return values;
  }

  const PickleValue& at(PickleRef value) const { return pickle_.values[value]; }
  const PickleValue& at(PickleRef value, Kind kind, std::string_view what) const {
    if (at(value).kind != kind) refuse(std::string(what), "a value of another kind");
    return at(value);
  }

  void step(unsigned char opcode) {
    switch (opcode) {
      case kMark:
        return marks_.push_back(stack_.size());
      case kPop:
        // Python lets POP remove a mark too; nothing writes that.
        return static_cast<void>(pop());
      case kPopMark:
        return static_cast<void>(pop_to_mark());
      case kDup:
        return stack_.push_back(top());
      case kFrame:
        return static_cast<void>(number<std::uint64_t>());

      case kNone:
        return push(Kind::kNone);
      case kNewTrue:
      case kNewFalse:
        return push(Kind::kBool, std::int64_t{opcode == kNewTrue});
      case kBinInt:
        return push(Kind::kInteger, std::int64_t{number<std::int32_t>()});
      case kBinInt1:
        return push(Kind::kInteger, std::int64_t{number<std::uint8_t>()});
      case kBinInt2:
        return push(Kind::kInteger, std::int64_t{number<std::uint16_t>()});
      case kLong1:
        return push_long(take(number<std::uint8_t>()));
      case kLong4:
        return push_long(take(number<std::uint32_t>()));
      case kBinFloat:
        return push_float();

      case kBinUnicode:
        return push_text(take(number<std::uint32_t>()));
      case kShortBinUnicode:
        return push_text(take(number<std::uint8_t>()));
      case kBinUnicode8:
        return push_text(take(number<std::uint64_t>()));
      case kBinString:
        return push_string(take(number<std::uint32_t>()));
      case kShortBinString:
        return push_string(take(number<std::uint8_t>()));
      case kBinBytes:
        return push(Kind::kBytes, take(number<std::uint32_t>()));
      case kShortBinBytes:
        return push(Kind::kBytes, take(number<std::uint8_t>()));
      case kBinBytes8:
      case kByteArray8:
        return push(Kind::kBytes, take(number<std::uint64_t>()));

      case kEmptyList:
        return push(Kind::kList);
      case kEmptyTuple:
        return push(Kind::kTuple);
      case kEmptyDict:
        return push(Kind::kDict);
      case kEmptySet:
        return push(Kind::kObject, "builtins.set");
      case kList:
        return push(Kind::kList, pop_to_mark());
      case kTuple:
        return push(Kind::kTuple, pop_to_mark());
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return push(Kind::kTuple, pop(static_cast<std::size_t>(opcode - kTuple1 + 1)));
      case kDict: {
        const std::vector<PickleRef> items = pop_to_mark();
        push(Kind::kDict);
        return fill(Kind::kDict, items);
      }
      case kFrozenSet:
        pop_to_mark();
        return push(Kind::kObject, "builtins.frozenset");

      case kAppend:
        return fill(Kind::kList, pop(1));
      case kAppends:
        return fill(Kind::kList, pop_to_mark());
      case kSetItem:
        return fill(Kind::kDict, pop(2));
      case kSetItems:
        return fill(Kind::kDict, pop_to_mark());
      case kAddItems:
        pop_to_mark();
        return static_cast<void>(at(top(), Kind::kObject, "a set to fill"));
      case kBuild:
        return build();

      case kBinPut:
        return remember(number<std::uint8_t>());
      case kLongBinPut:
        return remember(number<std::uint32_t>());
      case kMemoize:
        return remember(memo_.size());
      case kBinGet:
        return recall(number<std::uint8_t>());
      case kLongBinGet:
        return recall(number<std::uint32_t>());

      case kGlobal: {
        const std::string_view module = line();
        return push_global(module, line());
      }
      case kStackGlobal: {
        const std::vector<PickleRef> names = pop(2);
        const std::string& module = at(names[0], Kind::kString, "a module's name").text;
        return push_global(module, at(names[1], Kind::kString, "a name").text);
      }
      case kBinPersistentId:
        return push_storage(pop());
      case kReduce:
      case kNewObject: {
        const std::vector<PickleRef> call = pop(2);
        return make(call[0], call[1]);
      }
      case kNewObjectEx: {
        const std::vector<PickleRef> call = pop(3);
        return make(call[0], call[1]);
      }
      default:
        refuse("an opcode of a pickle of data", fmt::format("0x{:02X}", opcode));
    }
  }

  void push_long(std::string_view bytes) {
    if (bytes.size() > sizeof(std::int64_t)) return push(Kind::kBigInteger, bytes);
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(bytes[i]);
    }
    const bool is_negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
    if (is_negative && bytes.size() < sizeof value) value |= ~std::uint64_t{0} << 8 * bytes.size();
    push(Kind::kInteger, static_cast<std::int64_t>(value));
  }

  void push_float() {
    std::uint64_t bits = 0;
    for (const char byte : take(sizeof bits)) bits = bits << 8 | static_cast<unsigned char>(byte);
    PickleValue value{.kind = Kind::kFloat};
    value.real = std::bit_cast<double>(bits);
    push(std::move(value));
  }

  void push_text(std::string_view text) {
    if (!is_utf8(text)) refuse("text in UTF-8", "other bytes");
    push(Kind::kString, text);
  }

  /// Python 2 has one type for text and bytes.
  void push_string(std::string_view text) {
    push(is_utf8(text) ? Kind::kString : Kind::kBytes, text);
  }

  void push_global(std::string_view module, std::string_view name) {
    const std::string full = fmt::format("{}.{}", module, name);
    if (!is_allowed(module, name, full)) {
      throw InputError(
          fmt::format("read {}: expected a pickle that asks only for tensors and plain data, got "
                      "the global {}\nhint: nothing of the file was run; have its owner save the "
                      "state_dict alone",
                      file_, quote(full)));
    }
    push(Kind::kGlobal, full);
  }

  void remember(std::uint64_t key) {
    if (memo_.size() == kMostValues) {
      refuse(fmt::format("a memo of at most {} values", kMostValues), "more");
    }
    memo_[key] = top();
  }
  void recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) {
      refuse("a value of the memo", fmt::format("the unknown number {}", key));
    }
    stack_.push_back(found->second);
  }

  /// Adds items to the list or dictionary on top of the stack; an object's are dropped.
  void fill(Kind kind, const std::vector<PickleRef>& items) {
    if (kind == Kind::kDict && items.size() % 2 != 0) refuse("a value for each key", "none");
    PickleValue& target = pickle_.values[top()];
    if (target.kind == Kind::kObject) return;
    if (target.kind != kind) {
      refuse(kind == Kind::kDict ? "a dictionary to fill" : "a list to fill",
             "a value of another kind");
    }
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  /// Drops the attributes of the dictionary or object on top of the stack.
  void build() {
    pop();
    const Kind kind = at(top()).kind;
    if (kind != Kind::kDict && kind != Kind::kObject) {
      refuse("a dictionary or object to give attributes", "a value of another kind");
    }
  }

  std::int64_t natural(PickleRef value, std::string_view what) const {
    const std::int64_t number = at(value, Kind::kInteger, what).integer;
    if (number < 0) refuse(std::string(what), fmt::format("{}", number));
    return number;
  }

  /// A tensor's storage is named by ('storage', class, key, device, element count); torch before
  /// 0.4 wrote a sixth item, and something but None into it for a storage within another.
  void push_storage(PickleRef id) {
    const std::vector<PickleRef>& items = at(id, Kind::kTuple, "a storage's tuple").items;
    if (items.size() != 5 && items.size() != 6) {
      refuse("a storage's tuple of 5 or 6", fmt::format("{} items", items.size()));
    }
    if (at(items[0], Kind::kString, "the word 'storage'").text != "storage") {
      refuse("the word 'storage'", quote(at(items[0]).text));
    }
    const std::string& name = at(items[1], Kind::kGlobal, "a storage class").text;
    const Global* storage_class = find_global(kStorageClasses, name);
    if (storage_class == nullptr) refuse("a storage class", quote(name));
    const std::string& key = at(items[2], Kind::kString, "a storage's key").text;
    if (key.size() > kLongestKey) {
      refuse(fmt::format("a storage's key of at most {} bytes", kLongestKey),
             fmt::format("{}", key.size()));
    }
    const auto elements = static_cast<std::uint64_t>(natural(items[4], "an element count"));
    if (items.size() == 6) at(items[5], Kind::kNone, "a storage that is no view of another");

    const std::string dtype(storage_class->dtype);
    const std::uint64_t width = dtype.empty() ? 1 : find_dtype(dtype)->bytes;
    if (elements > kMostStorageBytes / width) {
      refuse("a storage of fewer than 2^63 bytes", fmt::format("{} elements", elements));
    }
    const auto [place, is_new] =
        storage_places_.try_emplace(key, static_cast<std::int64_t>(pickle_.storages.size()));
    if (is_new) pickle_.storages.push_back({.key = key, .dtype = dtype, .bytes = elements * width});
    const PickleStorage& storage = pickle_.storages[static_cast<std::size_t>(place->second)];
    if (storage.dtype != dtype || storage.bytes != elements * width) {
      refuse(fmt::format("one dtype and size for storage {}", quote(key)), "two");
    }
    push(Kind::kStorage, place->second);
  }

  /// What REDUCE and NEWOBJ come to, without calling anything.
  void make(PickleRef callee, PickleRef arguments) {
    const std::string& name = at(callee, Kind::kGlobal, "a class or function").text;
    const std::vector<PickleRef>& items = at(arguments, Kind::kTuple, "a tuple of arguments").items;
    if (name == kOrderedDict) {
      make_dict(items);
    } else if (name == kRebuildTensor2 || name == kRebuildTensor3) {
      make_tensor(items, /*has_dtype=*/name == kRebuildTensor3);
    } else if (name == kRebuildParameter || name == kRebuildParameterWithState) {
      if (items.empty()) refuse("a parameter's tensor", "no arguments");
      at(items[0], Kind::kTensor, "a parameter's tensor");
      stack_.push_back(items[0]);
    } else {
      push(Kind::kObject, name);
    }
  }

  /// OrderedDict(), or as Python 2 writes it OrderedDict([[key, value], ...]).
  void make_dict(const std::vector<PickleRef>& arguments) {
    std::vector<PickleRef> items;
    if (!arguments.empty()) {
      const std::vector<PickleRef>& pairs = at(arguments[0], Kind::kList, "a list of pairs").items;
      // The one place where few bytes could copy many values.
      copied_ += pairs.size();
      if (copied_ > kMostValues) {
        refuse(fmt::format("at most {} values", kMostValues), "more");
      }
      for (const PickleRef pair : pairs) {
        const auto& both = at(pair, Kind::kList, "a pair").items;
        if (both.size() != 2) refuse("a pair", fmt::format("{} items", both.size()));
        items.insert(items.end(), both.begin(), both.end());
      }
    }
    push(Kind::kDict, std::move(items));
  }

  /// Arguments: storage, offset, size, stride, requires_grad, hooks, [dtype,] [metadata].
  void make_tensor(const std::vector<PickleRef>& arguments, bool has_dtype) {
    const std::size_t fewest = has_dtype ? 7 : 6;
    if (arguments.size() != fewest && arguments.size() != fewest + 1) {
      refuse(fmt::format("a tensor's {} or {} arguments", fewest, fewest + 1),
             fmt::format("{}", arguments.size()));
    }
    const PickleValue& storage = at(arguments[0], Kind::kStorage, "a tensor's storage");
    std::string dtype = pickle_.storages[static_cast<std::size_t>(storage.integer)].dtype;
    if (has_dtype == !dtype.empty()) {
      refuse("a dtype from either the storage or the tensor", has_dtype ? "both" : "neither");
    }
    if (has_dtype) {
      const std::string& name = at(arguments[6], Kind::kGlobal, "a dtype").text;
      const Global* known = find_global(kUntypedDtypes, name);
      if (known == nullptr) refuse("a dtype of an untyped storage", quote(name));
      dtype = known->dtype;
    }
    natural(arguments[1], "a tensor's offset");
    const auto& sizes = at(arguments[2], Kind::kTuple, "a tensor's size").items;
    const auto& strides = at(arguments[3], Kind::kTuple, "a tensor's stride").items;
    if (sizes.size() != strides.size() || sizes.size() > kMostDimensions) {
      refuse(fmt::format("size and stride of one rank, at most {}", kMostDimensions),
             fmt::format("{} and {}", sizes.size(), strides.size()));
    }
    for (const PickleRef size : sizes) natural(size, "a tensor's size");
    for (const PickleRef stride : strides) natural(stride, "a tensor's stride");
    if (arguments.size() > fewest) {
      const PickleValue& metadata = at(arguments.back());
      // Here torch notes that a tensor is to be conjugated or negated.
      if (metadata.kind != Kind::kNone &&
          !(metadata.kind == Kind::kDict && metadata.items.empty())) {
        refuse("a tensor without metadata", "some");
      }
    }
    push({.kind = Kind::kTensor,
          .text = std::move(dtype),
          .items = {arguments.begin(), arguments.begin() + 4}});
  }

  std::string_view bytes_;
  const std::string& file_;
  std::size_t position_ = 0;
  Pickle pickle_{};
  std::vector<PickleRef> stack_;
  std::vector<std::size_t> marks_;  ///< heights of the stack
  std::map<std::uint64_t, PickleRef> memo_;
  std::map<std::string, std::int64_t> storage_places_;
  std::size_t copied_ = 0;
};

}  // namespace

Pickle parse_pickle(std::span<const std::byte> bytes, const std::string& file) {
  return Machine(bytes, file).run();
}

}  // namespace ecoformer::io
