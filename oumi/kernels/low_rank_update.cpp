#include "oumi/kernels/low_rank_update.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "oumi/kernels/checks.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor rows_of(const Tensor& tensor) { return tensor.reshape({-1, tensor.size(-1)}); }

// bfloat16(base + delta); `delta` is used up.
Tensor add_rounded(const Tensor& base, const Tensor& delta) {
  const Tensor packed = base.contiguous(), out = at::empty_like(packed);
  const auto* from = cpu::pointer<cpu::BFloat16>(packed);
  auto* to = cpu::pointer<cpu::BFloat16>(out);
  auto* sum = delta.mutable_data_ptr<float>();
  const std::int64_t width = base.size(-1);
  cpu::for_rows(delta.size(0), width, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t at = first * width; at < last * width; at += width) {
      cpu::simd().bfloat16.add_scaled(from + at, 1, sum + at, width);
      cpu::simd().narrow(sum + at, to + at, width);
    }
  });
  return out;
}

class LowRankUpdate : public torch::autograd::Function<LowRankUpdate> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& result, const Tensor& x, const Tensor& a, const Tensor& b,
                        double scaling) {
    const Tensor reduced = at::mm(rows_of(x).to(at::kFloat), a.t());
    context->save_for_backward({x, a, b, reduced});
    context->saved_data["scaling"] = scaling;
    return add_rounded(result, at::mm(reduced * scaling, b.t()));
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &a = saved[1], &b = saved[2];
    // Gradients of gradients need what forward kept as a value.
    const Tensor reduced = c10::GradMode::is_enabled() ? at::mm(rows_of(x).to(at::kFloat), a.t()) : saved[3];
    const double scaling = context->saved_data["scaling"].toDouble();
    const Tensor upstream = rows_of(grads[0]).to(at::kFloat);
    variable_list result{grads[0], Tensor(), Tensor(), Tensor(), Tensor()};
    if (context->needs_input_grad(3)) result[3] = at::mm(upstream.t(), reduced * scaling);
    if (!context->needs_input_grad(1) && !context->needs_input_grad(2)) return result;
    const Tensor grad_reduced = at::mm(upstream, b) * scaling;
    if (context->needs_input_grad(1)) result[1] = at::mm(grad_reduced, a).to(x.scalar_type()).view(x.sizes());
    if (context->needs_input_grad(2)) result[2] = at::mm(grad_reduced.t(), rows_of(x).to(at::kFloat));
    return result;
  }
};

void check_sizes(const Tensor& result, const Tensor& x, const Tensor& a, const Tensor& b) {
  const bool fits = x.dim() > 0 && a.dim() == 2 && b.dim() == 2 && x.size(-1) == a.size(1) && a.size(0) == b.size(1) &&
                    result.dim() == x.dim() && result.size(-1) == b.size(0) &&
                    result.sizes().slice(0, x.dim() - 1) == x.sizes().slice(0, x.dim() - 1);
  expect(fits, "low_rank_update", "result [*, out], x [*, in], a [rank, in] and b [out, rank]", result.sizes(), ", ", x.sizes(),
         ", ", a.sizes(), " and ", b.sizes());
}

}  // namespace

Tensor low_rank_update(const Tensor& result, const Tensor& x, const Tensor& a, const Tensor& b, double scaling) {
  RECORD_FUNCTION("oumi::low_rank_update", std::vector<c10::IValue>({result, x, a, b}));
  check_sizes(result, x, a, b);
  const bool autocast = at::autocast::is_autocast_enabled(result.device().type());
  const bool low = result.scalar_type() == at::kBFloat16 && (x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kFloat);
  if (low && !autocast && a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat && x.numel() > 0 &&
      cpu::have_loops({result, x, a, b})) {
    return LowRankUpdate::apply(result, x, a, b, scaling);
  }
  const Tensor reduced = at::linear(x.to(a.scalar_type()), a) * scaling;
  if (!autocast && result.scalar_type() == b.scalar_type()) {
    return at::addmm(rows_of(result), rows_of(reduced), b.t()).view(result.sizes());
  }
  return (result + at::linear(reduced, b)).to(result.scalar_type());
}

}  // namespace oumi::kernels
