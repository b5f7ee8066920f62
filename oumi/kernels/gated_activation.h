// The gated activations between a decoder's two MLP projections.
#pragma once

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

// silu(gate) * up, silu(x) = x / (1 + exp(-x)). Shazeer 2020, arXiv:2002.05202.
// gate and up [*], one shape and dtype: float32, bfloat16 or float64. Computed in float32 (float64 for float64) and rounded
// once. Error against float64: 4 eps(dtype) * |y| + 1e-7 * |up|. Saves gate and up for backward, nothing else.
// Throws UserError on shapes or dtypes that differ.
Tensor swiglu(const Tensor& gate, const Tensor& up);

// gelu(gate) * up with the tanh approximation, gelu(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Otherwise as swiglu;
// Hendrycks & Gimpel 2016, arXiv:1606.08415. transformers' "gelu_pytorch_tanh".
Tensor geglu(const Tensor& gate, const Tensor& up);

}  // namespace oumi::kernels
