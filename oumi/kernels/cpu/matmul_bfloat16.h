// Products of bfloat16 matrices with float32 sums, tile by tile, through LibTorch's batch-reduce products (oneDNN).
//
// LibTorch's own products reach 386 GFLOP/s at SmolLM2-135M's shapes on two cores of an AMD EPYC (Zen 4), tiles in cache 233 on
// one: the rest goes for rearranging operands, which here happens tile by tile, in vectors.
#pragma once

#include "oumi/kernels/cpu/simd_tiles.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

// Whether this processor and this LibTorch have such products.
bool has_tile_products();

// c [m, n] (+)= a [m, k] b [k, n], on this thread. k is even. Each size is compiled once a thread: keep to few.
void tile_product(std::int64_t m, std::int64_t n, std::int64_t k, const BFloat16* a, std::int64_t a_stride, const Pair* b,
                  std::int64_t b_stride, bool add, float* c, std::int64_t c_stride);

// While a thread makes tile products. Processors with tile registers (AMX) keep these arranged for the last product; at its end
// they are given back, since LibTorch's other products arrange them anew without its batch-reduce products knowing.
class TileRegisters {
 public:
  TileRegisters() = default;
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
  ~TileRegisters();
};

// Whether multiply_by_tiles takes a [m, k] and b [k, n]: matrices of bfloat16 whose rows or columns lie packed, of matching
// sizes that are large enough to be worth it. Not on processors with tile registers (AMX), whose arrangement is another.
bool goes_by_tiles(const Tensor& a, const Tensor& b);

// out [m, n] = a b + bias of bfloat16 matrices that go by tiles; out is bfloat16 and its rows lie packed, bias [n] is bfloat16
// or undefined. Not differentiable. Sums are float32 and rounded once, and an element's bits depend neither on the other rows
// and columns nor on the number of threads.
void multiply_by_tiles(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out);

// sums [m, n] float32, whose rows lie packed, += a b.
void add_by_tiles(const Tensor& sums, const Tensor& a, const Tensor& b);

}  // namespace oumi::kernels::cpu
