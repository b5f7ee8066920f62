// CMakeLists.txt gives this file its instruction set.
#define OUMI_SIMD_TABLE kAvx512Loops
#define OUMI_SIMD_NAME "avx512"
#include "oumi/kernels/cpu/simd_loops.inc"
