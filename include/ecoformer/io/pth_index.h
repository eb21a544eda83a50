// What a file of torch.save holds and where, without its data. Needs no torch, so that the part
// that faces hostile bytes can be fuzzed and used alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace ecoformer::io {

/// A run of bytes of a file that tensors are views of.
struct PthStorage {
  std::string dtype;  ///< as in safetensors; empty for an untyped one
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// One tensor: a view of a storage.
struct PthTensor {
  std::string name;
  std::string dtype;  ///< as in safetensors
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< in elements, non-negative
  std::int64_t offset = 0;            ///< of the first element in the storage, in elements
  std::size_t storage = 0;
};

/// Something in the file that is no tensor of its state.
struct PthIgnored {
  std::string name;
  std::string what;  ///< such as "an object of argparse.Namespace"
};

/// The state a file holds, and what came with it.
struct PthIndex {
  std::vector<PthStorage> storages;
  std::vector<PthTensor> tensors;  ///< in the order of the file, each name once
  /// `pth.layout`: "zip" or "legacy". `pth.state`: the key under which the state was found, where
  /// there is one. `pth.prefix`: "module.", where names lost it. `pth.keys`: the keys of the file's
  /// dictionary, where the state is under one of them. `pth.entry.<key>`: their plain values, such
  /// as the epoch.
  std::map<std::string, std::string> metadata;
  std::vector<PthIgnored> ignored;
};

/// Reads the index of a file of torch.save: the ZIP layout (torch 1.6 and later), stored entries of
/// little-endian data, or the older one of five pickles and the storages behind them.
///
/// The state is the dictionary under the first of the keys model, state_dict, model_state_dict,
/// model_ema, state_dict_ema that the file's own dictionary has with a dictionary for a value; else
/// the file's dictionary itself. Dictionaries within it are flattened, names joined by dots. If all
/// of its tensors are named `module.*`, as DataParallel does, that prefix is taken off. Everything
/// else in the file is in `metadata` or `ignored`.
///
/// On return each tensor has at most as many elements as its storage and lies within it, and the
/// storages lie within the file and do not overlap. No pickle is executed; see `parse_pickle` for
/// what it may ask for. Throws InputError naming `file` and the reason; memory is linear in the
/// size of the pickles, which are refused above 64 MiB.
PthIndex parse_pth_index(std::span<const std::byte> bytes, const std::string& file);

/// The same for a file in a stream that can seek; reads directory and pickles alone.
PthIndex read_pth_index(std::istream& stream, const std::string& file);

/// The same for a file on disk.
PthIndex read_pth_index(const std::filesystem::path& path);

}  // namespace ecoformer::io
