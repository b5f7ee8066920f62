// Work on LibTorch's threads.
#pragma once

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace oumi::kernels::cpu {

// at::parallel_for: calls action(first, last) for pieces of [begin, end) of at least `grain` each, on as many of LibTorch's
// threads. Exceptions come out. LibTorch's own is a template that runs on one thread in any source not compiled for OpenMP;
// this one is compiled for it.
void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                  c10::function_ref<void(std::int64_t, std::int64_t)> action);

}  // namespace oumi::kernels::cpu
