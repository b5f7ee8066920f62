// The hash that a safetensors file of ours keeps of each of its tensors. No torch here.
#pragma once

#include <cstddef>
#include <string>

namespace oumi {

inline constexpr std::size_t kTensorHashDigits = 16;

// XXH3-64 as kTensorHashDigits hex digits.
std::string tensor_hash(const void* data, std::size_t size);

}  // namespace oumi
