#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/checkpoint/safetensors_dtype.h"
#include "oumi/checkpoint/tensor_hash.h"
#include "oumi/checkpoint/weight_values.h"

namespace oumi {
namespace fs = std::filesystem;

// Private and writable: an optimizer that updates a loaded tensor in place gets its own copy of the page instead of a crash.
struct SafetensorsFile::Map {
  explicit Map(const fs::path& path) {
    const MappedFile readable(path);  // reports what cannot be read
    size = readable.size();
    if (size == 0) return;
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) throw_file_error(path, "cannot be read");
    struct stat info{};
    const bool unchanged = ::fstat(descriptor, &info) == 0 && static_cast<std::uint64_t>(info.st_size) == size;
    void* address =
        unchanged ? ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0) : MAP_FAILED;
    ::close(descriptor);
    if (!unchanged) throw UserError(path.string(), "changed while it was opened", "does another process write to it?");
    if (address == MAP_FAILED) throw_file_error(path, "cannot be mapped into memory");
    data = static_cast<std::byte*>(address);
  }
  ~Map() {
    if (data != nullptr) ::munmap(data, size);
  }
  // The pages of these bytes are read again when they are touched again; a changed one would be lost.
  void give_back(std::uint64_t begin, std::uint64_t end) const {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    begin = begin / page * page;
    if (end > begin) ::madvise(data + begin, end - begin, MADV_DONTNEED);
  }
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;

  std::byte* data = nullptr;
  std::uint64_t size = 0;
};

SafetensorsFile::SafetensorsFile(const fs::path& path)
    : path_(path), map_(std::make_shared<Map>(path)), header_(parse_safetensors_header(map_->data, map_->size, path.string())) {
  for (std::size_t i = 0; i < header_.entries.size(); ++i) index_.emplace(header_.entries[i].name, i);
  for (const auto& [key, value] : header_.metadata) {
    if (key != "format" && !index_.contains(key) && index_.contains(value)) aliases_.emplace_back(key, value);
  }
  for (const auto& [alias, name] : aliases_) index_.emplace(alias, index_.at(name));
}

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.entries[found->second];
}

Tensor SafetensorsFile::view(const SafetensorsEntry& entry) const {
  const c10::ScalarType type = torch_dtype(*entry.dtype);
  if (type == c10::ScalarType::Undefined) {
    throw UserError(path_.string(),
                    "tensor '" + entry.name + "': dtype " + std::string(entry.dtype->name) + " has no counterpart in LibTorch");
  }
  std::vector<std::int64_t> shape = entry.shape;
  if (type == c10::ScalarType::Float4_e2m1fn_x2) {
    if (shape.empty() || shape.back() % 2 != 0) {
      throw UserError(path_.string(), "tensor '" + entry.name + "': expected an even last dimension for the packed dtype F4");
    }
    shape.back() /= 2;
  }
  const auto options = at::TensorOptions().dtype(type);
  std::byte* data = map_->data + header_.data_begin + entry.begin;
  const std::size_t size = entry.end - entry.begin;
  if (size == 0) return at::empty(shape, options);
  // Other writers may leave a header of any length; kernels want natural alignment, so such a tensor is copied.
  const std::size_t alignment = c10::elementSize(type);
  if (reinterpret_cast<std::uintptr_t>(data) % alignment != 0) {
    Tensor copy = at::empty(shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, size);
    return copy;
  }
  return at::from_blob(data, shape, [map = map_](void*) {}, options);
}

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const SafetensorsEntry* entry = find(name);
  if (entry == nullptr) {
    std::vector<std::string> names;
    for (const auto& known : header_.entries) names.push_back(known.name);
    const std::string near = nearest_match(name, names);
    throw UserError(path_.string(), "tensor '" + name + "' is not in the file" + cat(" (", names.size(), " tensors)"),
                    near.empty() ? "" : "did you mean '" + near + "'?");
  }
  return view(*entry);
}

StateDict SafetensorsFile::tensors() const {
  StateDict state;
  for (const SafetensorsEntry& entry : header_.entries) state.set(entry.name, view(entry));
  for (const auto& [alias, name] : aliases_) state.set(alias, Tensor(state.at(name)));
  return state;
}

void SafetensorsFile::check_hashes() const {
  if (!keeps_hashes()) return;
  const int descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw_file_error(path_, "cannot be read");
  std::vector<std::string> found(header_.hashes.size());
  at::parallel_for(0, static_cast<std::int64_t>(found.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      const SafetensorsEntry& entry = header_.entries[i];
      found[i] = tensor_hash_of_file(descriptor, header_.data_begin + entry.begin, entry.end - entry.begin);
    }
  });
  ::close(descriptor);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == header_.hashes[i]) continue;
    throw UserError(path_.string(),
                    "tensor '" + header_.entries[i].name + "' is damaged: expected hash " + header_.hashes[i] +
                        " as the file says, got " + (found[i].empty() ? "bytes that cannot be read" : found[i]),
                    "copy or save the file again, or load another checkpoint");
  }
}

void SafetensorsFile::check_values() const {
  for (const SafetensorsEntry& entry : header_.entries) {
    if (torch_dtype(*entry.dtype) == c10::ScalarType::Undefined) continue;
    check_weight_values(StateDict{{entry.name, view(entry)}}, path_.string());
    map_->give_back(header_.data_begin + entry.begin, header_.data_begin + entry.end);
  }
}

namespace {

void check_contents(const SafetensorsFile& file, ContentCheck check) {
  if (check == ContentCheck::kNone) return;
  if (file.keeps_hashes()) {
    file.check_hashes();
  } else if (check == ContentCheck::kHashesElseValues) {
    file.check_values();
  }
}

}  // namespace

StateDict load_safetensors(const fs::path& path, ContentCheck check) {
  const SafetensorsFile file(path);
  check_contents(file, check);
  return file.tensors();
}

StateDict load_sharded_safetensors(const fs::path& directory, const std::string& base_name, ContentCheck check) {
  const fs::path single = directory / (base_name + ".safetensors");
  std::error_code ignored;  // a folder that may not be read is reported as one without weights
  if (fs::exists(single, ignored)) return load_safetensors(single, check);
  const fs::path index_path = single.string() + ".index.json";
  const std::string origin = index_path.string();
  if (!fs::exists(index_path, ignored)) {
    throw UserError(directory.string(),
                    "no weights found: expected " + single.filename().string() + " or " + index_path.filename().string());
  }
  const Json index = read_json_file(index_path);
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || weight_map == index.end() || !weight_map->is_object()) {
    throw UserError(origin,
                    "expected a dict with the dict weight_map, got " + (index.is_object() ? "none" : json_type_name(index)));
  }
  std::map<std::string, SafetensorsFile> shards;
  StateDict state;
  for (const auto& [name, file] : weight_map->items()) {
    if (!file.is_string()) throw UserError(origin, "weight_map." + name + ": expected str, got " + json_type_name(file));
    const std::string shard = file.get<std::string>();
    // The index comes from strangers: it names files beside itself, and no others.
    if (shard.empty() || shard == ".." || fs::path(shard).filename().string() != shard) {
      throw UserError(origin, "weight_map." + name + ": expected a file name, got '" + shard + "'");
    }
    auto found = shards.find(shard);
    if (found == shards.end()) {
      if (!fs::exists(directory / shard, ignored)) {
        throw UserError((directory / shard).string(), "the index lists this file, and it is missing",
                        "fetch or save the weights again");
      }
      found = shards.try_emplace(shard, directory / shard).first;
      check_contents(found->second, check);
    }
    if (!found->second.contains(name)) {
      throw UserError((directory / shard).string(), "tensor '" + name + "': the index lists it here, and it is missing");
    }
    state.set(name, found->second.tensor(name));
  }
  for (const auto& [shard, file] : shards) {
    for (const auto& [alias, name] : file.aliases()) {
      if (!state.contains(alias) && state.contains(name)) state.set(alias, Tensor(state.at(name)));
    }
  }
  return state;
}

}  // namespace oumi
