// Products of float32 sums by blocks that stay in cache, for processors with AVX2 and without AVX-512.
//
// Beside LibTorch's (MKL) they pack each operand once for all threads or once a thread, read bfloat16 where it lies, and give
// threads small pieces as they come, so that one that was held up does not keep the other waiting. An operand that several
// products share is packed once for them.
#pragma once

#include <optional>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// Whether simd() is the AVX2 set: with AVX-512, LibTorch's products of float32 are wider than these.
bool has_blocks();

// Whether multiply_by_blocks takes a [m, k] and b [k, n]: matrices of float32 or bfloat16, each of either, whose rows or
// columns lie packed, of matching sizes that are large enough to be worth it.
bool goes_by_blocks(const Tensor& a, const Tensor& b);

// Operands of one or more products of one inner size: `a` matrices [m, k] and `b` matrices [k, n], each one for all products or
// one a product.
struct ProductTerm {
  at::ArrayRef<Tensor> a, b;
};

// outs[i] [m, n] = the sum of all terms' a[i] b[i] + biases[i], or outs[i] += that with `add`. Of the first term's a and b, one
// has a single element, which all products share and which is packed once; a term after it may have an a of float32 for each b,
// such as low-rank factors (there, any k will do). Matrices are of float32 or bfloat16, their rows or columns lie packed; the
// first term's go by blocks. An out is float32, or, without `add`, bfloat16, rounded once, and with several b all are of one
// type; its rows lie packed. A bias [n] is float32 or bfloat16, or undefined; `biases` is empty when there are none. Not
// differentiable. An element's bits depend neither on the other rows and columns nor on the other products nor on the number of
// threads.
void multiply_by_blocks(at::ArrayRef<ProductTerm> terms, at::ArrayRef<Tensor> biases, at::ArrayRef<Tensor> outs, bool add);

}  // namespace oumi::kernels::cpu
