#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/checkpoint/safetensors_dtype.h"
#include "oumi/checkpoint/tensor_hash.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

SafetensorsEntry describe_tensor(const std::string& name, const Tensor& tensor, const std::string& origin,
                                 bool shape_is_enough) {
  const std::string where = "tensor '" + name + "': ";
  if (!tensor.defined()) throw UserError(origin, where + "expected a tensor, got an undefined one");
  if (tensor.layout() != c10::kStrided || (tensor.is_meta() && !shape_is_enough)) {
    throw UserError(
        origin, where + "expected a dense tensor with values, got " + (tensor.is_meta() ? "a meta" : "a sparse") + " tensor");
  }
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = safetensors_dtype(tensor.scalar_type());
  if (entry.dtype == nullptr) {
    throw UserError(origin, where + "safetensors has no dtype for " + c10::toString(tensor.scalar_type()),
                    "convert it, or keep it out of the state dict");
  }
  entry.shape = tensor.sizes().vec();
  if (tensor.scalar_type() == c10::ScalarType::Float4_e2m1fn_x2) {
    if (entry.shape.empty()) throw UserError(origin, where + "a packed 4-bit scalar has no place in the format");
    entry.shape.back() *= 2;
  }
  return entry;
}

// Bits that only a view knows of (conjugated, negated) are made real; the rest is a handle when it is contiguous on the CPU.
Tensor writable(const Tensor& tensor) { return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous(); }

bool same_view(const Tensor& a, const Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.is_conj() == b.is_conj() && a.is_neg() == b.is_neg();
}

}  // namespace

std::vector<std::pair<std::string, std::string>> find_tied_tensors(const StateDict& state) {
  std::vector<std::pair<std::string, std::string>> aliases;
  std::unordered_multimap<const void*, const StateDict::Entry*> seen;
  for (const auto& entry : state) {
    const Tensor& tensor = entry.second;
    if (!tensor.defined() || tensor.layout() != c10::kStrided || tensor.numel() == 0) continue;
    // One shape under two names stands for one tensor under two names.
    const void* data = tensor.is_meta() ? tensor.unsafeGetTensorImpl() : tensor.const_data_ptr();
    const auto [begin, end] = seen.equal_range(data);
    const auto same = std::find_if(begin, end, [&](const auto& other) { return same_view(other.second->second, tensor); });
    if (same != end) {
      aliases.emplace_back(entry.first, same->second->first);
    } else {
      seen.emplace(data, &entry);
    }
  }
  return aliases;
}

FileDigest save_safetensors(const fs::path& path, const StateDict& state, const SafetensorsOptions& options) {
  const std::string origin = path.string();
  SafetensorsMetadata metadata = options.metadata;
  std::unordered_map<std::string, std::string> aliases;
  for (const auto& [alias, name] : find_tied_tensors(state)) {
    aliases.emplace(alias, name);
    metadata.emplace(alias, name);
  }
  std::vector<SafetensorsEntry> entries;
  std::uint64_t data_size = 0;
  for (const auto& [name, tensor] : state) {
    if (aliases.contains(name)) continue;
    entries.push_back(describe_tensor(name, tensor, origin, static_cast<bool>(options.values)));
  }
  // Puts the entries into their order.
  if (options.keep_hashes) metadata[kTensorHashesKey] = std::string(entries.size() * kTensorHashDigits, '0');
  std::string header = build_safetensors_header(entries, metadata, origin), hashes;
  // Values in memory are hashed first. Others are made while they are written: their hashes' place is kept, and after the start
  // is written again the file has to be read for its own hash.
  const bool hashes_late = options.keep_hashes && std::any_of(entries.begin(), entries.end(), [&](const auto& entry) {
                             return state.at(entry.name).is_meta();
                           });
  if (options.keep_hashes && !hashes_late) {
    for (const SafetensorsEntry& entry : entries) {
      const Tensor tensor = writable(state.at(entry.name));
      hashes += tensor_hash(tensor.const_data_ptr(), entry.end - entry.begin);
    }
    metadata[kTensorHashesKey] = hashes;
    header = build_safetensors_header(entries, metadata, origin);
  }
  if (!entries.empty()) data_size = entries.back().end;

  OutputFile file(path, header.size() + data_size);
  file.write(header.data(), header.size());
  for (const SafetensorsEntry& entry : entries) {
    const Tensor& own = state.at(entry.name);
    const Tensor tensor = writable(own.is_meta() ? options.values(entry.name) : own);
    if (tensor.sizes() != own.sizes() || tensor.scalar_type() != own.scalar_type()) {
      throw InternalError(cat("tensor '", entry.name, "': expected ", own.sizes(), " ", own.scalar_type(), ", got ",
                              tensor.sizes(), " ", tensor.scalar_type()));
    }
    file.write(tensor.const_data_ptr(), entry.end - entry.begin);
    if (hashes_late) hashes += tensor_hash(tensor.const_data_ptr(), entry.end - entry.begin);
  }
  if (hashes_late) {
    metadata[kTensorHashesKey] = hashes;
    const std::string whole = build_safetensors_header(entries, metadata, origin);
    file.rewrite_start(whole.data(), whole.size());
  }
  return file.commit();
}

namespace {

std::string shard_name(const std::string& base, std::size_t index, std::size_t count) {
  char suffix[48];
  std::snprintf(suffix, sizeof suffix, "-%05zu-of-%05zu.safetensors", index, count);
  return base + suffix;
}

// base-00001-of-00002.safetensors
bool is_shard_name(const std::string& name, const std::string& base) {
  const std::string pattern = "-00000-of-00000.safetensors";
  if (name.size() != base.size() + pattern.size() || !name.starts_with(base)) return false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = name[base.size() + i];
    if (pattern[i] == '0' ? (c < '0' || c > '9') : c != pattern[i]) return false;
  }
  return true;
}

// Files of a save before this one: a reader would mix them with ours, or take them for the weights.
std::vector<std::string> remove_stale(const fs::path& directory, const std::string& base, const SavedShards& saved) {
  std::vector<std::string> removed;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name == base + ".safetensors" || name == base + ".safetensors.index.json" || is_shard_name(name, base);
    const bool current =
        std::any_of(saved.files.begin(), saved.files.end(), [&](const auto& file) { return file.first == name; });
    if (!ours || current) continue;
    std::error_code error;
    fs::remove(entry.path(), error);
    if (error) {
      errno = error.value();
      throw_file_error(entry.path(), "is of an older save and cannot be removed");
    }
    removed.push_back(name);
  }
  std::sort(removed.begin(), removed.end());
  if (!removed.empty()) fsync_path(directory);
  return removed;
}

}  // namespace

SavedShards save_sharded_safetensors(const fs::path& directory, const StateDict& state, const ShardOptions& options) {
  if (options.max_shard_size == 0) throw UserError("max_shard_size", "expected at least 1 byte, got 0");
  std::unordered_map<std::string, std::string> aliases;
  for (const auto& [alias, name] : find_tied_tensors(state)) aliases.emplace(alias, name);

  std::vector<StateDict> shards;
  StateDict current;
  std::uint64_t current_size = 0, total_size = 0, total_parameters = 0;
  std::unordered_map<std::string, std::size_t> shard_of;
  const auto close_current = [&] {
    if (!current.empty()) shards.push_back(std::move(current));
    current = {};
    current_size = 0;
  };
  for (const auto& [name, tensor] : state) {
    if (aliases.contains(name)) continue;
    if (!tensor.defined())
      throw UserError((directory / options.base_name).string(),
                      "tensor '" + name + "': expected a tensor, got an undefined one");
    const std::uint64_t size = static_cast<std::uint64_t>(tensor.numel()) * tensor.element_size();
    total_size += size;
    total_parameters += static_cast<std::uint64_t>(tensor.numel());
    if (size > options.max_shard_size) {
      shards.push_back(StateDict{{name, tensor}});
      continue;
    }
    if (current_size + size > options.max_shard_size) close_current();
    current.set(name, tensor);
    current_size += size;
  }
  close_current();
  if (shards.empty()) shards.emplace_back();

  SavedShards saved;
  const SafetensorsOptions file_options{.values = options.values, .keep_hashes = options.keep_hashes};
  make_directories(directory);
  if (shards.size() == 1) {
    const std::string name = options.base_name + ".safetensors";
    saved.files.emplace_back(name, save_safetensors(directory / name, state, file_options));  // with the aliases
  } else {
    std::map<std::string, std::string> weight_map;  // sorted, as the index wants it
    for (std::size_t i = 0; i < shards.size(); ++i) {
      const std::string name = shard_name(options.base_name, i + 1, shards.size());
      // A tied name goes where its tensor goes, so that the shard's metadata tells of it.
      for (const auto& [tensor_name, tensor] : StateDict(shards[i])) {
        weight_map[tensor_name] = name;
        for (const auto& [alias, target] : aliases) {
          if (target == tensor_name) shards[i].set(alias, state.at(alias));
        }
      }
      saved.files.emplace_back(name, save_safetensors(directory / name, shards[i], file_options));
    }
    nlohmann::json index;  // sorted keys
    index["metadata"] = {{"total_parameters", total_parameters}, {"total_size", total_size}};
    index["weight_map"] = weight_map;
    const std::string name = options.base_name + ".safetensors.index.json";
    saved.files.emplace_back(name, write_output_file(directory / name, index.dump(2, ' ', true) + "\n"));
  }
  saved.removed = remove_stale(directory, options.base_name, saved);
  return saved;
}

std::uint64_t parse_shard_size(std::string_view text) {
  const auto fail = [&]() -> UserError {
    return UserError("max_shard_size", "expected a size like 5GB, 500MB, 1GiB or bytes, got '" + std::string(text) + "'");
  };
  const std::string trimmed = trim(text);
  std::size_t digits = 0;
  std::uint64_t value = 0;
  for (; digits < trimmed.size() && trimmed[digits] >= '0' && trimmed[digits] <= '9'; ++digits) {
    if (__builtin_mul_overflow(value, std::uint64_t{10}, &value) ||
        __builtin_add_overflow(value, static_cast<std::uint64_t>(trimmed[digits] - '0'), &value))
      throw fail();
  }
  static const std::map<std::string, std::uint64_t> kUnits = {{"", 1},
                                                              {"b", 1},
                                                              {"kb", 1000},
                                                              {"mb", 1000'000},
                                                              {"gb", 1000'000'000},
                                                              {"tb", 1000'000'000'000},
                                                              {"kib", 1ull << 10},
                                                              {"mib", 1ull << 20},
                                                              {"gib", 1ull << 30},
                                                              {"tib", 1ull << 40}};
  const auto unit = kUnits.find(to_lower(trim(std::string_view(trimmed).substr(digits))));
  if (digits == 0 || value == 0 || unit == kUnits.end() || __builtin_mul_overflow(value, unit->second, &value)) throw fail();
  return value;
}

}  // namespace oumi
