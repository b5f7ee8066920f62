// Linear layers with low-rank adapters.
#pragma once

#include <vector>

#include "oumi/kernels/low_rank_update.h"

namespace oumi::kernels {

struct LowRankFactors {
  Tensor a, b;  // [rank, in], [out, rank]
  double scaling;
};

// linear(x, weights[i], biases[i]) + scaling_i * (adapted a_i^T) b_i^T for several layers with one input, differentiable: what
// linear() and low_rank_update() give. x [*, in]; `adapted` is x, or as much of it as the adapters get (after dropout), of x's
// shape.
//
// With AVX2 (cpu/matmul_float32.h), over frozen weights of float32 or bfloat16, with float32 factors of one rank, without
// autocast: one operation for all layers. The update is summed in float32 with the layer's product and rounded with it, x is
// packed once for all layers, and its gradient is summed with the updates' before it is rounded. Kept for backward: `adapted`,
// adapted a_i^T, weights and factors.
std::vector<Tensor> linears_with_updates(const Tensor& x, const Tensor& adapted, at::ArrayRef<Tensor> weights,
                                         at::ArrayRef<Tensor> biases, at::ArrayRef<LowRankFactors> updates);

}  // namespace oumi::kernels
