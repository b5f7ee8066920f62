// Products of float32 sums by blocks that stay in cache, for processors with AVX2 and without AVX-512.
//
// Beside LibTorch's (MKL) they pack each operand once for all threads or once a thread, read bfloat16 where it lies, and give
// threads small pieces as they come, so that one that was held up does not keep the other waiting.
#pragma once

#include <optional>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// Whether simd() is the AVX2 set: with AVX-512, LibTorch's products of float32 are wider than these.
bool has_blocks();

// Whether multiply_by_blocks takes a [m, k] and b [k, n]: matrices of float32 or bfloat16, each of either, whose rows or
// columns lie packed, of matching sizes that are large enough to be worth it.
bool goes_by_blocks(const Tensor& a, const Tensor& b);

// out [m, n] = a b + bias, or out += a b + bias with `add`, for a and b that go by blocks. out is float32, or, without `add`,
// bfloat16, rounded once; its rows lie packed. bias [n] is float32 or bfloat16, or undefined. Not differentiable. An element's
// bits depend neither on the other rows and columns nor on the number of threads.
void multiply_by_blocks(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out, bool add);

}  // namespace oumi::kernels::cpu
