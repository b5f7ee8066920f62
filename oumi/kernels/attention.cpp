#include "oumi/kernels/attention.h"

#include <ATen/record_function.h>
#include "oumi/kernels/checks.h"
#include "oumi/kernels/composed.h"
#include "oumi/kernels/cpu/attention.h"

namespace oumi::kernels {
namespace {

void check(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  const char* name = "attention";
  expect(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes() && q.size(0) == k.size(0) && q.size(3) == k.size(3), name,
         "q [batch, query, heads, head_dim], k and v [batch, key, kv_heads, head_dim]", q.sizes(), ", ", k.sizes(), ", ",
         v.sizes());
  expect(k.size(2) > 0 && q.size(2) % k.size(2) == 0, name, "heads to be a multiple of kv_heads", q.size(2), " and ",
         k.size(2));
  expect(is_float_type(q.scalar_type()) && q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type(), name,
         "q, k and v of one floating-point dtype", q.scalar_type(), ", ", k.scalar_type(), ", ", v.scalar_type());
  expect(options.sliding_window >= 0 && (options.sliding_window == 0 || options.causal), name,
         "sliding_window > 0 with causal only", options.sliding_window);
  const bool placed = options.key_offset >= 0 && options.key_offset + q.size(1) <= k.size(1);
  expect(placed || (!options.causal && !options.segment_ids.defined()), name,
         cat("key_offset + ", q.size(1), " queries <= ", k.size(1), " keys"), "key_offset ", options.key_offset);
  const Tensor& segments = options.segment_ids;
  if (!segments.defined()) return;
  expect(segments.dim() == 2 && segments.size(0) == k.size(0) && segments.size(1) == k.size(1) &&
             segments.scalar_type() == at::kInt,
         name, cat("segment_ids int32 [", k.size(0), ", ", k.size(1), "]"), segments.scalar_type(), " ", segments.sizes());
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  RECORD_FUNCTION("oumi::attention", std::vector<c10::IValue>({q, k, v}));
  check(q, k, v, options);
  return cpu::has_tiled_attention(q, k, v, options) ? cpu::tiled_attention(q, k, v, options)
                                                    : composed::attention(q, k, v, options);
}

}  // namespace oumi::kernels
