// What a low-rank adapter adds to a linear layer's output.
#pragma once

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

// result + scaling * (x a^T) b^T, in result's dtype, differentiable. Hu et al. 2021, arXiv:2106.09685.
//
// x [*, in], a [rank, in], b [out, rank], result [*, out]. x is taken in a's dtype (float32 factors beside a bfloat16 layer, as
// PEFT has them), and the sum is rounded once. There, on the CPU and without autocast, x is kept for backward as it came and
// converted again, not in float32. Error against float64: eps(result) * |sum| + 1e-5 * |scaling| * |x| |a|^T |b|^T. Throws
// UserError naming the shapes when they do not fit.
Tensor low_rank_update(const Tensor& result, const Tensor& x, const Tensor& a, const Tensor& b, double scaling);

}  // namespace oumi::kernels
