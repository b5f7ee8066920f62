// The product of a linear layer.
#pragma once

#include <optional>
#include <vector>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

// x weight^T + bias, as at::linear, differentiable. x [*, in], weight [out, in], bias [out] or none.
//
// On a CPU without bfloat16 instructions, bfloat16 operands (and float32 ones under bfloat16 autocast) are multiplied as
// float32 values, many times as fast as LibTorch there; the result is rounded to bfloat16 once, and a float32 weight's
// gradient is not rounded. With AVX2 they are read where they lie; elsewhere that costs a float32 copy of them while the
// product runs.
//
// Forward and backward products go by tiles, by blocks or by few rows where that is faster (cpu/matrix_product.h): float32
// sums, rounded once with the bias in them. Gradients of gradients are LibTorch's products. x and weight are saved for backward
// as at::linear does: beside a frozen weight, x is not.
//
// Up to four rows of float32 or bfloat16, as decoding has, are summed in float32 and rounded once, with a bias added before
// rounding.
Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias);

// The same for several layers with one input: biases[i] may be undefined. Where products go by blocks, x is packed once for all
// of them, forward and backward, and x's gradient is summed before it is rounded; elsewhere these are as many calls of linear.
std::vector<Tensor> linears(const Tensor& x, at::ArrayRef<Tensor> weights, at::ArrayRef<Tensor> biases);

}  // namespace oumi::kernels
