// The hash that a safetensors file of ours keeps of each of its tensors. No torch here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace oumi {

inline constexpr std::size_t kTensorHashDigits = 16;

// XXH3-64 as kTensorHashDigits hex digits.
std::string tensor_hash(const void* data, std::size_t size);

// The same of `size` bytes at `offset` of an open file, through a small buffer: a map's pages would count as this process's
// memory. Empty when the file can't be read there; errno says why.
std::string tensor_hash_of_file(int descriptor, std::uint64_t offset, std::uint64_t size);

}  // namespace oumi
