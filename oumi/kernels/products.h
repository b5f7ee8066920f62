// Which instructions float32 products use.
#pragma once

namespace oumi::kernels {

// Lets LibTorch's BLAS use AVX-512 where the processor has it, whoever made the processor. MKL by itself takes its AVX2
// products on processors that are not Intel's: on two cores of an AMD EPYC (Zen 4) 181-201 GFLOP/s instead of 217-225. It
// decides with the process's first product, so a call after that has no effect.
//
// Language models call this. Other models keep MKL's own choice: their small products gain little, and round as PyTorch's do on
// the same machine. OUMI_MKL_AS_IS=1 in the environment keeps it for language models too.
void allow_widest_products();

}  // namespace oumi::kernels
