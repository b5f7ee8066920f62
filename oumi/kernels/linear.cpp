#include "oumi/kernels/linear.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/linear.h"
#include "oumi/kernels/cpu/matmul_bfloat16.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor flat(const Tensor& tensor) { return tensor.reshape({-1, tensor.size(-1)}); }

class LinearByFloat32 : public torch::autograd::Function<LinearByFloat32> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        at::ScalarType type) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    context->save_for_backward({x, weight});
    if (bias && bias->defined()) context->saved_data["bias_type"] = static_cast<std::int64_t>(bias->scalar_type());
    const Tensor rows = flat(x).to(at::kFloat), transposed = weight.to(at::kFloat).t();
    const Tensor product =
        bias && bias->defined() ? at::addmm(bias->to(at::kFloat), rows, transposed) : at::mm(rows, transposed);
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return product.to(type).view(shape);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const Tensor upstream = flat(grads[0]).to(at::kFloat);
    variable_list result(4);
    if (context->needs_input_grad(0)) result[0] = at::mm(upstream, weight.to(at::kFloat)).to(x.scalar_type()).view(x.sizes());
    if (context->needs_input_grad(1)) result[1] = at::mm(upstream.t(), flat(x).to(at::kFloat)).to(weight.scalar_type());
    // An absent bias has no edge to ask about.
    if (const auto type = context->saved_data.find("bias_type");
        type != context->saved_data.end() && context->needs_input_grad(2)) {
      result[2] = upstream.sum(0).to(static_cast<at::ScalarType>(type->second.toInt()));
    }
    return result;
  }
};

// bfloat16 all through, by tiles.
class LinearByTiles : public torch::autograd::Function<LinearByTiles> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    // As LibTorch does: beside frozen weights, as adapters have them, the input need not stay.
    context->save_for_backward({weight.requires_grad() ? x : Tensor(), x.requires_grad() ? weight : Tensor()});
    context->saved_data["biased"] = bias && bias->defined();
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return cpu::product(flat(x), weight.t(), bias).view(shape);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    // Gradients of gradients come from LibTorch's products, which are differentiable.
    const auto multiply = [differentiable = c10::GradMode::is_enabled()](const Tensor& a, const Tensor& b) {
      return differentiable ? at::mm(a, b) : cpu::product(a, b);
    };
    const Tensor upstream = flat(grads[0]);
    variable_list result(3);
    if (context->needs_input_grad(0)) {
      std::vector<std::int64_t> shape = grads[0].sizes().vec();
      shape.back() = weight.size(1);
      result[0] = multiply(upstream, weight).view(shape);
    }
    if (context->needs_input_grad(1)) result[1] = multiply(upstream.t(), flat(x));
    // An absent bias has no edge to ask about.
    if (context->saved_data["biased"].toBool() && context->needs_input_grad(2)) result[2] = upstream.sum(0);
    return result;
  }
};

}  // namespace

Tensor cpu::linear_by_float32(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, at::ScalarType type) {
  return LinearByFloat32::apply(x, weight, bias, type);
}

Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  RECORD_FUNCTION("oumi::linear", std::vector<c10::IValue>({x, weight}));
  const bool autocast =
      at::autocast::is_autocast_enabled(at::kCPU) && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
  if (!autocast && cpu::has_few_rows(x, weight, bias)) return cpu::linear_of_few_rows(x, weight, bias);
  const bool low = autocast || (x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16);
  if (low && cpu::have_loops({x, weight}) && x.dim() > 0 && x.numel() > 0 && weight.dim() == 2) {
    if (!cpu::has_bfloat16_products()) return cpu::linear_by_float32(x, weight, bias, at::kBFloat16);
    // Under autocast, a weight is narrowed once for all its uses.
    const auto narrow = [](const Tensor& tensor) { return at::autocast::cached_cast(at::kBFloat16, tensor, c10::kCPU); };
    const Tensor low_x = autocast ? narrow(x) : x, low_weight = autocast ? narrow(weight) : weight;
    std::optional<Tensor> low_bias = bias;
    if (autocast && bias && bias->defined()) low_bias = narrow(*bias);
    if (cpu::goes_by_tiles(flat(low_x), low_weight.t())) return LinearByTiles::apply(low_x, low_weight, low_bias);
    return at::linear(low_x, low_weight, low_bias);
  }
  return at::linear(x, weight, bias);
}

}  // namespace oumi::kernels
