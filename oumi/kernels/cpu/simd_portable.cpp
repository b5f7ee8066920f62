// CMakeLists.txt gives this file its instruction set.
#define OUMI_SIMD_TABLE kPortableLoops
#define OUMI_SIMD_NAME "default"
#include "oumi/kernels/cpu/simd_loops.inc"
