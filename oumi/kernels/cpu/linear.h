// A linear layer's product of few rows.
#pragma once

#include <optional>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// True for products of float32 or bfloat16 of so few rows (a token or a few, in decoding) that reading the weight is all that
// counts, where nothing is differentiated.
bool has_few_rows(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias);

// x weight^T + bias of those: sums in float32, rounded once. Reads the weight where it lies; oneDNN first rearranges one of
// bfloat16, which costs several times the product, and MKL's product of one row has one thread.
Tensor linear_of_few_rows(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias);

}  // namespace oumi::kernels::cpu
