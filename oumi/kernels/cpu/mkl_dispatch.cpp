// MKL asks this function whether it runs on an Intel processor, and LibTorch's call resolves to the definition here, which
// comes before MKL's own in the order of symbols. Where LibTorch carries no MKL, nobody calls it.
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>

#include "oumi/kernels/products.h"

namespace oumi::kernels {
namespace {

std::atomic<bool> widest_products{false};

bool has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

}  // namespace

void allow_widest_products() {
  const char* as_is = std::getenv("OUMI_MKL_AS_IS");
  if (as_is == nullptr || *as_is == '\0' || *as_is == '0') widest_products = true;
}

}  // namespace oumi::kernels

extern "C" __attribute__((visibility("default"))) int mkl_serv_intel_cpu_true() {
  if (oumi::kernels::widest_products && oumi::kernels::has_avx512()) return 1;
  const auto own = reinterpret_cast<int (*)()>(dlsym(RTLD_NEXT, "mkl_serv_intel_cpu_true"));
  return own != nullptr ? own() : 0;
}
