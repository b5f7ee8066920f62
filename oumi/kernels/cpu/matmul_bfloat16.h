// Products of bfloat16 matrices with float32 sums, tile by tile, through LibTorch's batch-reduce products (oneDNN).
//
// LibTorch's own products reach 386 GFLOP/s at SmolLM2-135M's shapes on two cores of an AMD EPYC (Zen 4), tiles in cache 233 on
// one: the rest goes for rearranging operands, which here happens tile by tile, in vectors.
#pragma once

#include <optional>

#include "oumi/kernels/cpu/simd_tiles.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// Whether this processor and this LibTorch have such products.
bool has_tile_products();

// c [m, n] (+)= a [m, k] b [k, n], on this thread. k is even. Each size is compiled once a thread: keep to few.
void tile_product(std::int64_t m, std::int64_t n, std::int64_t k, const BFloat16* a, std::int64_t a_stride, const Pair* b,
                  std::int64_t b_stride, bool add, float* c, std::int64_t c_stride);

// Whether product(a, b) goes by tiles; otherwise it is LibTorch's, errors included: sizes that don't fit, other types and
// devices, small products, and those on processors with tile registers (AMX), whose arrangement is another. a [m, k], b [k, n].
bool goes_by_tiles(const Tensor& a, const Tensor& b);

// a b + bias of bfloat16 matrices [m, k] and [k, n] (transposed views are fine) and bias [n] or none; not differentiable. By
// tiles, sums are float32 and rounded once, and an element's bits depend neither on the other rows and columns nor on the
// number of threads.
Tensor product(const Tensor& a, const Tensor& b, const std::optional<Tensor>& bias = {});

// The same into `out` [m, n] bfloat16, whose rows lie packed.
void product_into(const Tensor& out, const Tensor& a, const Tensor& b);

// sums [m, n] float32, whose rows lie packed, += a b.
void add_product(const Tensor& sums, const Tensor& a, const Tensor& b);

}  // namespace oumi::kernels::cpu
