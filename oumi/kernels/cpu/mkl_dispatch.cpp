// MKL asks whether the processor is Intel's and takes AVX2 kernels where it isn't, also where the processor has AVX-512. This
// answers for it where it has: LibTorch's call resolves to this definition, which comes before its own in the order of symbols.
// On a 2-core AMD EPYC (Zen 4) float32 products go from 181-201 to 217-225 GFLOP/s. OUMI_MKL_AS_IS=1 leaves MKL's own choice.
// Where LibTorch carries no MKL, nobody calls it.
#include <dlfcn.h>

#include <cstdlib>

extern "C" __attribute__((visibility("default"))) int mkl_serv_intel_cpu_true() {
  static const int answer = [] {
    const char* as_is = std::getenv("OUMI_MKL_AS_IS");
#if defined(__x86_64__)
    if ((as_is == nullptr || *as_is == '\0' || *as_is == '0') && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      return 1;
    }
#endif
    const auto own = reinterpret_cast<int (*)()>(dlsym(RTLD_NEXT, "mkl_serv_intel_cpu_true"));
    return own != nullptr ? own() : 0;
  }();
  return answer;
}
