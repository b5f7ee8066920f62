// Memory for tiles and packed operands that a thread keeps between calls, so that a step allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace oumi::kernels::cpu {

// Grows to the largest size asked for; contents are whatever was there. Begins on a cache line.
template <class T>
class ScratchMemory {
 public:
  T* at_least(std::int64_t size) {
    constexpr std::size_t kSpare = kCacheLine / sizeof(T);
    const std::size_t wanted = static_cast<std::size_t>(size) + kSpare;
    if (values_.size() < wanted) values_.resize(wanted);
    const std::size_t beyond = reinterpret_cast<std::uintptr_t>(values_.data()) % kCacheLine;
    return values_.data() + (beyond == 0 ? 0 : (kCacheLine - beyond) / sizeof(T));
  }

 private:
  static constexpr std::size_t kCacheLine = 64;
  std::vector<T> values_;
};

// The calling thread's memory number `slot`, of those of its type that one operation needs at once.
template <class T>
T* scratch(std::size_t slot, std::int64_t size) {
  thread_local ScratchMemory<T> memory[8];
  return memory[slot].at_least(size);
}

}  // namespace oumi::kernels::cpu
