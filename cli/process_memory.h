// What becomes of memory that a command frees.
#pragma once

namespace oumi::cli {

enum class FreedMemory {
  kStaysWithTensors,  // for training steps, which ask for the same tensors again: they have pages of their own, which stay
  kStaysInHeap,  // for forward passes alone, whose few large blocks leave no holes: a little faster than pages of their own
  kGoesBack,     // every large block, for sharded weights: blocks of many sizes, whole weights among them, come and go
};

// For the process, before it has other threads. glibc's usual variables (MALLOC_TRIM_THRESHOLD_, ...) come first: with one of
// them this does nothing.
void choose_memory(FreedMemory freed);

}  // namespace oumi::cli
