// The JSON header of a safetensors file: 8 bytes little-endian length, that many bytes of JSON, then the tensors' bytes.
// https://huggingface.co/docs/safetensors: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
// "__metadata__": {"key": "text"}}. No torch here: what is read from strangers is checked before a tensor exists.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace oumi {

using SafetensorsMetadata = std::map<std::string, std::string>;

// Metadata of our files of weights: tensor_hash of every tensor, one behind the other, by position in the file. It lies in
// the file that it is about, so it is replaced and copied with it. Another program that reads the metadata and writes it
// back beside other values doesn't lie about them: headers that hold these hashes end in kHashedPadding spaces or more,
// the reference library's in fewer.
inline constexpr const char* kTensorHashesKey = "xxh3_64";
inline constexpr std::size_t kHashedPadding = 8;

// A dtype by its name in the file. `rank` is its place when tensors are laid out: higher comes first.
struct SafetensorsDtype {
  std::string_view name;
  int bits;
  int rank;
};

// nullptr when the format has no such name.
const SafetensorsDtype* find_safetensors_dtype(std::string_view name);

struct SafetensorsEntry {
  std::string name;
  const SafetensorsDtype* dtype = nullptr;
  std::vector<std::int64_t> shape;   // in elements of the dtype
  std::uint64_t begin = 0, end = 0;  // of the bytes after the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by position in the file
  SafetensorsMetadata metadata;
  std::vector<std::string> hashes;  // of `entries`; empty when the file keeps none
  std::uint64_t data_begin = 0;     // where the tensors' bytes begin in the file
};

// The largest header that readers accept.
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

// Checks everything there is to check about a whole file of `size` bytes: length, JSON, duplicate names, dtypes, shapes,
// overflow, and that the tensors fill the file without hole, overlap or rest. Reads only the header.
// Throws UserError naming `origin`, the tensor, and expected against got.
SafetensorsHeader parse_safetensors_header(const std::byte* data, std::uint64_t size, const std::string& origin);

// Lays `entries` out as the reference library does (dtype rank descending, then name), fills in begin and end, and returns the
// first bytes of the file: length and header. Names must be unique and UTF-8. With kTensorHashesKey in `metadata` the tensors
// begin at a multiple of 64 bytes. Throws UserError.
std::string build_safetensors_header(std::vector<SafetensorsEntry>& entries, const SafetensorsMetadata& metadata,
                                     const std::string& origin);

// Bytes of a tensor; -1 when that overflows, is no whole number of bytes, or a dimension is negative.
std::int64_t safetensors_byte_size(const SafetensorsDtype& dtype, const std::vector<std::int64_t>& shape);

}  // namespace oumi
