// Forms of a linear layer's product for bfloat16 values.
#pragma once

#include <optional>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// x weight^T + bias by float32 products, rounded to `type` once. Operands are float32 or bfloat16.
Tensor linear_by_float32(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, at::ScalarType type);

// True for bfloat16 products of so few rows (a token or a few, in decoding) that reading the weight is all that counts, where
// nothing is differentiated.
bool has_few_rows(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias);

// x weight^T + bias of those: sums in float32, rounded once. Reads the weight where it lies; oneDNN first rearranges it, which
// costs several times the product.
Tensor linear_of_few_rows(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias);

}  // namespace oumi::kernels::cpu
