// Rotary position embedding.
#pragma once

#include <utility>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

// Rotates the first Drot channels of each head in pairs (i, i + Drot/2), the convention of transformers' Llama ("rotate
// half"); channels from Drot on pass through. Su et al. 2021, arXiv:2104.09864.
//   y[i] = x[i] cos[i] - x[i + Drot/2] sin[i],   y[i + Drot/2] = x[i + Drot/2] cos[i] + x[i] sin[i]
//
// q [batch, query, heads, head_dim], k [batch, query, kv_heads, head_dim]: float32, bfloat16 or float64. cos, sin
// [query or (batch, query), Drot/2], float32 (float64 for float64 q). Returns rotated copies. Computed in float32 and rounded
// once: transformers rounds cos, sin and each product to bfloat16. Error against float64: 4 eps(dtype) * max|x|.
// cos and sin get no gradient; they are all that backward keeps. Throws UserError on shapes that do not fit.
std::pair<Tensor, Tensor> apply_rotary(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin);

}  // namespace oumi::kernels
