// Scaled dot-product attention with grouped heads, causal, sliding-window and packed (segmented) masks.
#pragma once

#include <cstdint>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

struct AttentionOptions {
  double scale = 1.0;               // multiplies q k^T; 1/sqrt(head_dim) for most families
  bool causal = true;               // key j is seen by query i if j <= i
  std::int64_t sliding_window = 0;  // > 0: and only if i - sliding_window < j, as in transformers. Needs causal
  double soft_cap = 0;              // > 0: scores become soft_cap * tanh(score / soft_cap) before the mask (Gemma 2)
  Tensor segment_ids{};             // int32 [batch, key]: only keys of the query's segment are seen; -1 is padding
  std::int64_t key_offset = 0;      // query t stands at key position key_offset + t (decoding with a cache)
};

// softmax(scale q k^T + mask) v.
//
// q [batch, query, heads, head_dim], k and v [batch, key, kv_heads, head_dim] -> [batch, query, heads, head_dim]. heads is a
// multiple of kv_heads; head h reads key head h / (heads / kv_heads), and keys are never repeated in memory by the fused form.
// float32, bfloat16 or float64, one dtype for all three. A query that sees no key, padding included, gets zeros, and gives
// and gets no gradient. No [query, key] mask is built, and with float32 and bfloat16 on the CPU no [query, key] scores are
// kept: q, k, v, the result and one float32 a query and head are saved for backward. Sums are float32 (float64 for float64).
// Error against float64: 4 eps(dtype) * max|v| * (1 + max|scaled score|). Dao et al. 2022, arXiv:2205.14135 (tiles and the
// recomputing backward). Throws UserError naming the shapes or options that do not fit.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options);

}  // namespace oumi::kernels
