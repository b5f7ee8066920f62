// CMakeLists.txt gives this file its instruction set.
#define OUMI_SIMD_TABLE kAvx2Loops
#define OUMI_SIMD_NAME "avx2"
#include "oumi/kernels/cpu/simd_loops.inc"
