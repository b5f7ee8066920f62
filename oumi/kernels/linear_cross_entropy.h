// A language model's last projection and its cross entropy, without the logits of the whole batch.
#pragma once

#include <cstdint>
#include <optional>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

enum class LossReduction { kSum, kMean };

struct LinearCrossEntropyOptions {
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;  // e: (1 - e) * nll + e * mean over classes of -log p, as torch's cross_entropy
  double soft_cap = 0;         // > 0: logits become soft_cap * tanh(logits / soft_cap) (Gemma 2)
  LossReduction reduction = LossReduction::kMean;  // kMean: over the labels that are not ignored; NaN when all are
};

// cross_entropy(hidden weight^T + bias, labels).
//
// hidden [rows, hidden], weight [vocabulary, hidden], bias [vocabulary] or undefined: float32, bfloat16 or float64, one dtype
// (under autocast, its dtype, as at::linear). labels int64 [rows]. Returns a float32 scalar (float64 for float64 hidden). Rows
// are projected a chunk at a time, and gradients are computed in the forward pass (when one is asked for): at most 512 *
// vocabulary logits exist, never [rows, vocabulary]. Ignored rows are left out of every product. The gradient of weight is
// summed over chunks in float32 and rounded once: one float32 copy of weight while it runs. Cost: as the plain form, three
// products. A CPU without bfloat16 instructions multiplies bfloat16 values in float32. After Liger's fused linear cross entropy
// (Hsu et al. 2024, arXiv:2410.10989). One backward pass: a second one through the same loss throws InternalError. Throws
// UserError on shapes or dtypes that do not fit, and on a label outside [0, vocabulary) that is not ignore_index.
Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& labels,
                            const LinearCrossEntropyOptions& options = {});

}  // namespace oumi::kernels
