// Weights in safetensors files: reading without a copy, writing tensor by tensor, and Hugging Face's sharded folders.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "oumi/checkpoint/output_file.h"
#include "oumi/checkpoint/safetensors_header.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi {

// --- writing ---

// Gives the values of a tensor that the state has only the shape of (a meta tensor), when it is its turn to be written.
using TensorSource = std::function<Tensor(const std::string& name)>;

struct SafetensorsOptions {
  SafetensorsMetadata metadata = {{"format", "pt"}};
  TensorSource values = {};
  // A hash of every tensor goes into the file's metadata (kTensorHashesKey), by which a changed bit is found when it is read,
  // wherever the file has been copied to. For weights; what lies in checkpoints alone has the manifest.
  bool keep_hashes = false;
};

// Writes `state` as one file, whole or absent, and returns its size and hash.
//
// Equal tensors and metadata give equal bytes: the layout is the reference library's (wide dtypes first, then by name).
// Tensors may lie on any device, be strided or be views: each is made contiguous in turn, so the extra memory is at most one
// tensor. Names that share one tensor (tied weights) are written once, under the first of them in `state`, and the others go
// into the file's metadata as {alias: name}, where load_safetensors finds them.
// Throws UserError for dtypes and layouts that the format lacks, EnvironmentError when the disk refuses.
FileDigest save_safetensors(const std::filesystem::path& path, const StateDict& state, const SafetensorsOptions& options = {});

struct ShardOptions {
  std::uint64_t max_shard_size = 50'000'000'000;  // bytes; parse_shard_size reads "5GB"
  std::string base_name = "model";
  TensorSource values = {};
  bool keep_hashes = true;
};

struct SavedShards {
  std::vector<std::pair<std::string, FileDigest>> files;  // relative names; the index, where there is one, comes last
  std::vector<std::string> removed;                       // files of an older save with another number of shards
};

// Writes base_name.safetensors, or base_name-00001-of-0000N.safetensors and base_name.safetensors.index.json, as Transformers
// does: filled in the order of `state`, a tensor above the limit gets its own file. Each file is whole or absent; the set is
// not (inside a CheckpointWriter it is).
SavedShards save_sharded_safetensors(const std::filesystem::path& directory, const StateDict& state,
                                     const ShardOptions& options = {});

// "500MB", "5GB" (decimal), "1GiB" (binary), or plain bytes. Throws UserError.
std::uint64_t parse_shard_size(std::string_view text);

// The names of `state` that are another name for an earlier tensor: {alias, name}.
std::vector<std::pair<std::string, std::string>> find_tied_tensors(const StateDict& state);

// --- reading ---

// A file mapped into memory. Its tensors are views of the map, which lives as long as any of them; they may be written to
// without changing the file. Pages are read when they are first touched. The file must not be cut short meanwhile.
class SafetensorsFile {
 public:
  // Maps the file and checks its whole header (safetensors_header.h). Throws UserError.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::vector<SafetensorsEntry>& entries() const noexcept { return header_.entries; }
  const SafetensorsMetadata& metadata() const noexcept { return header_.metadata; }
  // Tied names that were written once: {alias, name}.
  const std::vector<std::pair<std::string, std::string>>& aliases() const noexcept { return aliases_; }

  bool contains(const std::string& name) const { return find(name) != nullptr; }
  // Aliases are names too. Throws UserError naming the file when there is no such tensor.
  Tensor tensor(const std::string& name) const;
  // All of them in the file's order, then the aliases (which share the tensors that they stand for).
  StateDict tensors() const;

  // Compares every tensor with the hash that the file keeps of it; without hashes there is nothing to compare. Reads all of
  // the file, on all cores. Throws UserError naming the file and the tensor.
  void check_hashes() const;
  // check_weight_values() of every tensor, for files without hashes; before any of them is changed, since what was read for
  // it is given back: only the largest tensor counts as this process's memory.
  void check_values() const;
  bool keeps_hashes() const noexcept { return !header_.hashes.empty(); }

 private:
  struct Map;
  const SafetensorsEntry* find(const std::string& name) const;
  Tensor view(const SafetensorsEntry& entry) const;

  std::filesystem::path path_;
  std::shared_ptr<Map> map_;
  SafetensorsHeader header_;
  std::vector<std::pair<std::string, std::string>> aliases_;
  std::unordered_map<std::string, std::size_t> index_;
};

// What is held against the contents of a file before its tensors are handed out; each reads all of it.
enum class ContentCheck {
  kNone,
  kHashes,           // check_hashes()
  kHashesElseValues  // check_values() where the file keeps no hashes: for files that hold trained weights alone
};

// SafetensorsFile(path).tensors().
StateDict load_safetensors(const std::filesystem::path& path, ContentCheck check = ContentCheck::kNone);

// A folder's base_name.safetensors, or the shards that base_name.safetensors.index.json lists. Throws UserError naming missing
// shards, and tensors that a shard lacks.
StateDict load_sharded_safetensors(const std::filesystem::path& directory, const std::string& base_name = "model",
                                   ContentCheck check = ContentCheck::kNone);

}  // namespace oumi
