// Products of few rows: a token of each sequence, as decoding has, or a short prompt.
#pragma once

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// Whether multiply_few_rows takes a [m, k] and b [k, n]: both float32 or both bfloat16, of so few rows that reading b is all
// that counts, and b's columns lie packed one after another, as those of a transposed weight do.
bool has_few_rows(const Tensor& a, const Tensor& b);

// a b + bias in their type: sums in float32, rounded once. bias [n] of either type, or undefined. Reads b where it lies; oneDNN
// first rearranges one of bfloat16, which costs several times the product. Not differentiable.
Tensor multiply_few_rows(const Tensor& a, const Tensor& b, const Tensor& bias);

}  // namespace oumi::kernels::cpu
