#include "oumi/kernels/rotary.h"

#include "oumi/kernels/checks.h"
#include "oumi/kernels/composed.h"

namespace oumi::kernels {
namespace {

void check(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  expect(q.dim() == 4 && k.dim() == 4 && q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3), "apply_rotary",
         "q [batch, query, heads, head_dim] and k [batch, query, kv_heads, head_dim]", q.sizes(), " and ", k.sizes());
  expect(is_float_type(q.scalar_type()) && q.scalar_type() == k.scalar_type(), "apply_rotary", "q and k of one floating-point dtype",
         q.scalar_type(), " and ", k.scalar_type());
  const bool shared = cos.dim() == 2 && cos.size(0) == q.size(1);
  const bool per_row = cos.dim() == 3 && cos.size(0) == q.size(0) && cos.size(1) == q.size(1);
  expect(cos.sizes() == sin.sizes() && (shared || per_row) && 2 * cos.size(-1) <= q.size(3), "apply_rotary",
         cat("cos and sin [", q.size(1), ", <= ", q.size(3) / 2, "] or [", q.size(0), ", ", q.size(1), ", <= ", q.size(3) / 2, "]"), cos.sizes(),
         " and ", sin.sizes());
}

}  // namespace

std::pair<Tensor, Tensor> apply_rotary(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  check(q, k, cos, sin);
  return composed::apply_rotary(q, k, cos, sin);
}

}  // namespace oumi::kernels
