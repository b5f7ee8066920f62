// CMakeLists.txt compiles this file for OpenMP.
#include "oumi/kernels/cpu/parallel.h"

#include <ATen/Parallel.h>

namespace oumi::kernels::cpu {

void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                  c10::function_ref<void(std::int64_t, std::int64_t)> action) {
  at::parallel_for(begin, end, grain, action);
}

}  // namespace oumi::kernels::cpu
