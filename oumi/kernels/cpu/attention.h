// Tiled attention on the CPU.
#pragma once

#include "oumi/kernels/attention.h"

namespace oumi::kernels::cpu {

// False where attention() composes LibTorch's operations: other dtypes and devices, and segments that are not runs of equal
// ids.
bool has_tiled_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options);

// As attention(), differentiable.
Tensor tiled_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options);

}  // namespace oumi::kernels::cpu
