// Linear layers of bfloat16 values by float32 products.
#pragma once

#include <optional>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// x weight^T + bias by float32 products, rounded to `type` once. Operands are float32 or bfloat16.
Tensor linear_by_float32(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, at::ScalarType type);

}  // namespace oumi::kernels::cpu
