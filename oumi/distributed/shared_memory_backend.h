// Collectives of the ranks of one machine over memory that they share: no sockets, no threads to wake, so that a small
// collective takes microseconds and a large one as long as copying it. Internal.
#pragma once

#include <chrono>
#include <memory>

#include "oumi/distributed/c10d.h"

namespace oumi {

// For tensors on the CPU: sums and maxima, broadcasts, gathers and scattered sums. Sums are made in the order of ranks, and are
// the same to the bit on all of them; bfloat16 and float16 are added up in float32. Ranks that call something else, or the same
// with another size or dtype, fail at once on both sides (CallsDiffer). Where a rank has more than one thread, large
// collectives go on beside the caller, in a thread of their own.
//
// nullptr where the ranks are not on one machine (SharedMemory::connect).
c10::intrusive_ptr<c10d::Backend> make_shared_memory_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                             std::chrono::milliseconds timeout);

}  // namespace oumi
