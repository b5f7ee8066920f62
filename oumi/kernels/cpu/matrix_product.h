// Products of two matrices, each by what is fastest for its types and sizes on this processor: bfloat16 by tiles
// (matmul_bfloat16.h), float32 by blocks (matmul_float32.h), a few rows where the other operand lies (few_rows.h), else
// LibTorch's, errors included.
//
// On a CPU without bfloat16 instructions, and for operands of different types, values are multiplied as float32. Sums are
// float32 and rounded once, except that LibTorch's products of bfloat16 may round a bias's sum separately. None is
// differentiable.
#pragma once

#include <optional>
#include <vector>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// a b + bias as `type`. a [m, k], b [k, n] (transposed views are fine), bias [n] or none.
Tensor product(const Tensor& a, const Tensor& b, at::ScalarType type, const std::optional<Tensor>& bias = {});

// a[i] b[i] + biases[i] as types[i]. Of a and b, one has a single element, which all products share: it is packed once for them
// where all go by blocks. Biases may be undefined.
std::vector<Tensor> products(at::ArrayRef<Tensor> a, at::ArrayRef<Tensor> b, at::ArrayRef<at::ScalarType> types,
                             at::ArrayRef<Tensor> biases);

// The sum of a[i] b[i] as `type`, rounded once where all go by blocks.
Tensor sum_of_products(at::ArrayRef<Tensor> a, at::ArrayRef<Tensor> b, at::ScalarType type);

// a b into `out` [m, n], whose rows lie packed.
void product_into(const Tensor& out, const Tensor& a, const Tensor& b);

// sums [m, n], at least as wide as a and b, whose rows lie packed, += a b.
void add_product(const Tensor& sums, const Tensor& a, const Tensor& b);

}  // namespace oumi::kernels::cpu
