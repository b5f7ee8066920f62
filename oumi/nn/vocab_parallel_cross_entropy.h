// Cross entropy over a vocabulary that is spread over a tensor-parallel group.
#pragma once

#include "oumi/distributed/tensor_parallel.h"
#include "oumi/kernels/linear_cross_entropy.h"

namespace oumi::nn {

// kernels::linear_cross_entropy with `weight` [this rank's part of vocabulary, hidden] and `bias` likewise; hidden [rows,
// hidden] and labels int64 [rows] are the same on every rank, and so is the loss. Label smoothing is over the whole vocabulary.
// The gradient of hidden is this rank's part of a sum over ranks: TensorParallel::enter, which hidden has come through, sums
// it. Every 512 rows cost two exchanges: their maxima, and three numbers of each row. One backward pass, as there.
Tensor vocab_parallel_cross_entropy(const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias,
                                    const Tensor& labels, std::int64_t vocabulary, const TensorParallel& parallel,
                                    const kernels::LinearCrossEntropyOptions& options = {});

}  // namespace oumi::nn
