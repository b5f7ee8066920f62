#include "oumi/checkpoint/tensor_hash.h"

#include <xxhash.h>

#include <cstdio>

namespace oumi {

std::string tensor_hash(const void* data, std::size_t size) {
  char text[kTensorHashDigits + 1];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(XXH3_64bits(data, size)));
  return text;
}

}  // namespace oumi
