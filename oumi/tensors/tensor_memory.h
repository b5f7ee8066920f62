// Memory of tensors on the CPU for programs that ask for the same sizes again and again, as training steps do.
#pragma once

#include <cstddef>

namespace oumi {

// Makes LibTorch's CPU tensors keep their freed memory for the next tensor of about the same size. The C library's heap either
// gives large blocks back to the system, which then clears and maps every page of the next one anew, or keeps them and lets
// small ones break up the large. Here every tensor from 256 KiB up has pages of its own, and what is kept together with what is
// in use never exceeds the most that was in use at once by more than an eighth: beyond that, the longest unused goes back. What
// the system refuses comes from LibTorch's own allocator, with its errors.
//
// For the process, and before it has other threads; the second call does nothing. Tensors made before keep their memory.
void keep_tensor_memory();

struct TensorMemoryUse {
  std::size_t used = 0, kept = 0, most_used = 0;  // bytes; zero without keep_tensor_memory
};
TensorMemoryUse tensor_memory_use();

}  // namespace oumi
