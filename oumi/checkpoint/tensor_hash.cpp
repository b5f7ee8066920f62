#include "oumi/checkpoint/tensor_hash.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <new>
#include <vector>

namespace oumi {
namespace {

constexpr std::uint64_t kPiece = std::uint64_t{256} << 10;  // stays in a core's cache between reading and hashing

std::string digits(XXH64_hash_t hash) {
  char text[kTensorHashDigits + 1];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace

std::string tensor_hash(const void* data, std::size_t size) { return digits(XXH3_64bits(data, size)); }

std::string tensor_hash_of_file(int descriptor, std::uint64_t offset, std::uint64_t size) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  if (!state) throw std::bad_alloc();
  XXH3_64bits_reset(state.get());
  std::vector<char> piece(static_cast<std::size_t>(std::min(size, kPiece)));
  while (size > 0) {
    const ssize_t count =
        ::pread(descriptor, piece.data(), static_cast<std::size_t>(std::min<std::uint64_t>(size, piece.size())),
                static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return "";
    XXH3_64bits_update(state.get(), piece.data(), static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
    size -= static_cast<std::uint64_t>(count);
  }
  return digits(XXH3_64bits_digest(state.get()));
}

}  // namespace oumi
