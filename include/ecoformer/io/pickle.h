// Python pickles as torch.save writes them, read into plain values. Nothing in a pickle is ever
// executed. Needs no torch, so that the part that faces hostile bytes can be fuzzed and used alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ecoformer::io {

/// A value of a `Pickle` by its place in `values`.
using PickleRef = std::uint32_t;

enum class PickleKind {
  kNone,
  kBool,        ///< `integer`
  kInteger,     ///< `integer`
  kBigInteger,  ///< `text`: two's complement, little-endian, more than 8 bytes
  kFloat,       ///< `real`
  kString,      ///< `text`, UTF-8
  kBytes,       ///< `text`
  kList,        ///< `items`
  kTuple,       ///< `items`
  kDict,        ///< `items`: key, value, key, value, ... in the order of insertion
  kStorage,     ///< `integer`: place in `Pickle::storages`
  kTensor,      ///< `text`: dtype; `items`: storage, offset in elements, size tuple, stride tuple
  kGlobal,      ///< `text`: "module.name"; a class or function, named but not called
  kObject       ///< `text`: "module.name" of what would have made it; its content is left out
};

/// One value. Values refer to each other by number and may do so more than once, or in a circle:
/// who walks them must bound the walk.
struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  std::int64_t integer = 0;
  double real = 0;
  std::string text{};
  std::vector<PickleRef> items{};
};

/// A run of elements that tensors refer to; its bytes lie outside the pickle.
struct PickleStorage {
  std::string key;    ///< at most 100 bytes
  std::string dtype;  ///< as in safetensors (F32, I64, ...); empty for an untyped one, in bytes
  std::uint64_t bytes = 0;
};

/// What one pickle holds.
struct Pickle {
  std::vector<PickleValue> values;
  std::vector<PickleStorage> storages;  ///< each key once
  PickleRef root = 0;
  std::uint64_t bytes = 0;  ///< from the PROTO to the STOP opcode: the pickle's own length
};

/// Reads the pickle at the start of `bytes`: the binary opcodes of protocols 2 to 5 but for
/// extension codes and out-of-band buffers.
///
/// A pickle asks for Python classes and functions by name. Which names are allowed, and what they
/// come to:
///   - `collections.OrderedDict`: a dictionary; attributes set on it (a state's `_metadata`) are
///     dropped.
///   - `torch._utils._rebuild_tensor_v2` and `_v3`, `_rebuild_parameter` and
///     `_rebuild_parameter_with_state`, torch's storage classes and dtypes: tensors.
///   - names that stand for data alone (argparse.Namespace, numpy's scalars and arrays, sets,
///   paths,
///     dates, torch.Size, ...; the list is in pickle.cpp): objects of kind kObject, whose content
///     is read over and dropped.
/// Any other name is refused where it appears, whether or not something would be made with it.
///
/// Throws InputError naming `file` and the reason. Time is O(n log n) and memory O(n) in the bytes
/// of the pickle, whatever lengths stand in it; more than 2^21 values are refused.
Pickle parse_pickle(std::span<const std::byte> bytes, const std::string& file);

}  // namespace ecoformer::io
