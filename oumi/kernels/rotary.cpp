#include "oumi/kernels/rotary.h"

#include <ATen/ops/empty.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "oumi/kernels/checks.h"
#include "oumi/kernels/composed.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  expect(q.dim() == 4 && k.dim() == 4 && q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3),
         "apply_rotary", "q [batch, query, heads, head_dim] and k [batch, query, kv_heads, head_dim]", q.sizes(), " and ",
         k.sizes());
  expect(is_float_type(q.scalar_type()) && q.scalar_type() == k.scalar_type(), "apply_rotary",
         "q and k of one floating-point dtype", q.scalar_type(), " and ", k.scalar_type());
  const bool shared = cos.dim() == 2 && cos.size(0) == q.size(1);
  const bool per_row = cos.dim() == 3 && cos.size(0) == q.size(0) && cos.size(1) == q.size(1);
  expect(cos.sizes() == sin.sizes() && (shared || per_row) && 2 * cos.size(-1) <= q.size(3), "apply_rotary",
         cat("cos and sin [", q.size(1), ", <= ", q.size(3) / 2, "] or [", q.size(0), ", ", q.size(1), ", <= ", q.size(3) / 2,
             "]"),
         cos.sizes(), " and ", sin.sizes());
}

// x [batch, position, heads, head_dim] with any strides, turned by the angles or back.
Tensor turn(const Tensor& x, const Tensor& cos, const Tensor& sin, float sign) {
  const Tensor in = x.stride(-1) == 1 ? x : x.contiguous();
  const Tensor out = at::empty(in.sizes(), in.options());
  const std::int64_t tokens = in.size(0) * in.size(1);
  cpu::by_type(in.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const cpu::Rotary<T> arguments{cpu::pointer<T>(in),
                                   cpu::pointer<T>(out),
                                   in.stride(0),
                                   in.stride(1),
                                   in.stride(2),
                                   in.size(1),
                                   in.size(2),
                                   in.size(3),
                                   cos.size(-1),
                                   cos.const_data_ptr<float>(),
                                   sin.const_data_ptr<float>(),
                                   cos.dim() == 3,
                                   sign};
    cpu::for_rows(tokens, in.size(2) * in.size(3),
                  [&](std::int64_t first, std::int64_t last) { cpu::simd().loops<T>().rotary(arguments, first, last); });
  });
  return out;
}

class ApplyRotary : public torch::autograd::Function<ApplyRotary> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& cos, const Tensor& sin) {
    context->save_for_backward({cos, sin});
    return turn(x, cos, sin, 1);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    return {turn(grads[0], saved[0], saved[1], -1), Tensor(), Tensor()};
  }
};

}  // namespace

std::pair<Tensor, Tensor> apply_rotary(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  RECORD_FUNCTION("oumi::apply_rotary", std::vector<c10::IValue>({q, k}));
  check(q, k, cos, sin);
  if (!cpu::have_loops({q, k}) || q.size(3) == 0) return composed::apply_rotary(q, k, cos, sin);
  const Tensor c = cos.detach().to(at::kFloat).contiguous(), s = sin.detach().to(at::kFloat).contiguous();
  return {ApplyRotary::apply(q, c, s), ApplyRotary::apply(k, c, s)};
}

}  // namespace oumi::kernels
