#include "oumi/kernels/cpu/simd.h"

#include <cstdlib>
#include <string_view>

namespace oumi::kernels::cpu {

extern const SimdLoops kPortableLoops, kAvx2Loops, kAvx512Loops;

namespace {

const SimdLoops& pick() {
#ifdef OUMI_SIMD_X86
  const char* wish = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string_view limit = wish == nullptr ? "" : wish;
  if (limit == "default") return kPortableLoops;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && limit != "avx2") return kAvx512Loops;
  if (avx2) return kAvx2Loops;
#endif
  return kPortableLoops;
}

}  // namespace

const SimdLoops& simd() {
  static const SimdLoops& loops = pick();
  return loops;
}

bool has_bfloat16_products() {
#ifdef OUMI_SIMD_X86
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

}  // namespace oumi::kernels::cpu
