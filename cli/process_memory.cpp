#include "cli/process_memory.h"

#include <malloc.h>

#include <cstdlib>
#include <limits>

#include "oumi/tensors/tensor_memory.h"

namespace oumi::cli {

void choose_memory(FreedMemory freed) {
#ifdef __GLIBC__
  for (const char* name : {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}) {
    if (std::getenv(name) != nullptr) return;
  }
  if (freed == FreedMemory::kGoesBack) {
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    return;
  }
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
#ifndef __SANITIZE_ADDRESS__  // which watches what comes from the heap
  if (freed == FreedMemory::kStaysWithTensors) keep_tensor_memory();
#endif
}

}  // namespace oumi::cli
