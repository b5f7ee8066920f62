#include "oumi/kernels/norm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "oumi/kernels/checks.h"
#include "oumi/kernels/composed.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check(const Tensor& x, const Tensor& weight) {
  expect(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0), "rms_norm", "x [*, hidden] and weight [hidden]",
         x.sizes(), " and ", weight.sizes());
  expect(is_float_type(x.scalar_type()) && is_float_type(weight.scalar_type()), "rms_norm", "floating point", x.scalar_type(),
         " and ", weight.scalar_type());
}

// The fused form writes x's dtype.
bool has_fused_form(const Tensor& x, const Tensor& weight, const RmsNormOptions& options) {
  if (!cpu::have_loops({x, weight}) || x.numel() == 0) return false;
  return options.unit_offset || at::promote_types(x.scalar_type(), weight.scalar_type()) == x.scalar_type();
}

Tensor scale_of(const Tensor& weight, bool unit_offset) {
  const Tensor scale = weight.detach().to(at::kFloat).contiguous();
  return unit_offset ? scale + 1 : scale;
}

struct Normed {
  Tensor y, sum, reciprocal;
};

Normed normalise(const Tensor& x, const Tensor& residual, const Tensor& weight, const RmsNormOptions& options) {
  const std::int64_t width = x.size(-1), rows = x.numel() / width;
  const Tensor scale = scale_of(weight, options.unit_offset);
  Normed result{at::empty_like(x), residual.defined() ? at::empty_like(x) : Tensor(), at::empty({rows}, scale.options())};
  cpu::by_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const cpu::RmsNormForward<T> arguments{cpu::pointer<T>(x),
                                           cpu::pointer<T>(residual),
                                           scale.const_data_ptr<float>(),
                                           cpu::pointer<T>(result.sum),
                                           cpu::pointer<T>(result.y),
                                           result.reciprocal.mutable_data_ptr<float>(),
                                           width,
                                           static_cast<float>(options.eps)};
    cpu::for_rows(rows, width, [&](std::int64_t first, std::int64_t last) {
      cpu::simd().loops<T>().rms_norm_forward(arguments, first, last);
    });
  });
  return result;
}

struct Gradients {
  Tensor x, weight;
};

// Partial sums over fixed blocks of rows, added in order: the same bits at any number of threads.
Gradients differentiate(const Tensor& x, const Tensor& weight, const Tensor& reciprocal, const Tensor& grad_y,
                        const Tensor& grad_sum, bool unit_offset, bool want_weight) {
  constexpr std::int64_t kBlockRows = 64;
  const std::int64_t width = x.size(-1), rows = x.numel() / width, blocks = (rows + kBlockRows - 1) / kBlockRows;
  const Tensor scale = scale_of(weight, unit_offset);
  const Tensor upstream = grad_y.to(x.scalar_type()).contiguous(),
               upstream_sum = grad_sum.defined() ? grad_sum.to(x.scalar_type()).contiguous() : grad_sum;
  const Tensor partial = want_weight ? at::zeros({blocks, width}, scale.options()) : Tensor();
  Gradients result{at::empty_like(x), Tensor()};
  cpu::by_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    cpu::parallel_for(0, blocks, cpu::grain_of(8 * kBlockRows * width), [&](std::int64_t first_block, std::int64_t last_block) {
      for (std::int64_t block = first_block; block < last_block; ++block) {
        const cpu::RmsNormBackward<T> arguments{cpu::pointer<T>(x),
                                                cpu::pointer<T>(upstream),
                                                cpu::pointer<T>(upstream_sum),
                                                scale.const_data_ptr<float>(),
                                                reciprocal.const_data_ptr<float>(),
                                                cpu::pointer<T>(result.x),
                                                want_weight ? partial.mutable_data_ptr<float>() + block * width : nullptr,
                                                width};
        cpu::simd().loops<T>().rms_norm_backward(arguments, block * kBlockRows, std::min(rows, (block + 1) * kBlockRows));
      }
    });
  });
  if (want_weight) result.weight = partial.sum(0).to(weight.scalar_type());
  return result;
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const RmsNormOptions& options) {
    const Tensor packed = x.contiguous();
    Normed normed = normalise(packed, Tensor(), weight, options);
    context->save_for_backward({packed, weight, normed.reciprocal});
    context->saved_data["unit_offset"] = options.unit_offset;
    return normed.y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    Gradients result = differentiate(saved[0], saved[1], saved[2], grads[0], Tensor(),
                                     context->saved_data["unit_offset"].toBool(), context->needs_input_grad(1));
    return {result.x, result.weight, Tensor()};
  }
};

class AddRmsNorm : public torch::autograd::Function<AddRmsNorm> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& residual, const Tensor& weight,
                               const RmsNormOptions& options) {
    Normed normed = normalise(x.contiguous(), residual.contiguous(), weight, options);
    context->save_for_backward({normed.sum, weight, normed.reciprocal});
    context->saved_data["unit_offset"] = options.unit_offset;
    context->set_materialize_grads(false);
    return {normed.y, normed.sum};
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    if (!grads[0].defined()) return {grads[1], grads[1], Tensor(), Tensor()};
    const auto saved = context->get_saved_variables();
    Gradients result = differentiate(saved[0], saved[1], saved[2], grads[0], grads[1],
                                     context->saved_data["unit_offset"].toBool(), context->needs_input_grad(2));
    return {result.x, result.x, result.weight, Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, const RmsNormOptions& options) {
  RECORD_FUNCTION("oumi::rms_norm", std::vector<c10::IValue>({x, weight}));
  check(x, weight);
  return has_fused_form(x, weight, options) ? RmsNorm::apply(x, weight, options) : composed::rms_norm(x, weight, options);
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                       const RmsNormOptions& options) {
  RECORD_FUNCTION("oumi::add_rms_norm", std::vector<c10::IValue>({x, residual, weight}));
  check(x, weight);
  expect(x.sizes() == residual.sizes(), "add_rms_norm", cat("residual of x's shape ", x.sizes()), residual.sizes());
  if (x.scalar_type() == residual.scalar_type() && has_fused_form(x, weight, options) && cpu::has_loops(residual)) {
    const variable_list results = AddRmsNorm::apply(x, residual, weight, options);
    return {results[0], results[1]};
  }
  const Tensor sum = x + residual;
  return {rms_norm(sum, weight, options), sum};
}

}  // namespace oumi::kernels
