// Root-mean-square normalisation, alone and with the residual addition before it.
#pragma once

#include <utility>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

struct RmsNormOptions {
  double eps = 1e-6;
  bool unit_offset = false;  // Gemma: scale by 1 + weight, the product in float32
};

// y = x / sqrt(mean(x^2, -1) + eps) * weight. Zhang & Sennrich 2019, arXiv:1910.07467.
//
// x [*, hidden], weight [hidden]; float32, bfloat16 or float64, of x and weight each. The result has the promoted dtype of
// the two (x's with unit_offset), as in transformers' LlamaRMSNorm and GemmaRMSNorm. Sums and the normalisation are float32
// (float64 for float64). Error against float64: 4 eps(dtype) * |y| + 1e-6 * max|weight|.
// Saves x, weight and one float32 a row for backward. Throws UserError naming both shapes when they do not fit.
Tensor rms_norm(const Tensor& x, const Tensor& weight, const RmsNormOptions& options);

// {rms_norm(x + residual), x + residual}, the sum rounded to its dtype before it is normalised. `residual` has x's shape.
std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                       const RmsNormOptions& options);

}  // namespace oumi::kernels
