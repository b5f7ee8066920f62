#include "oumi/kernels/linear.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/linear.h"
#include "oumi/kernels/cpu/matmul_bfloat16.h"
#include "oumi/kernels/cpu/matmul_float32.h"
#include "oumi/kernels/cpu/matrix_product.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor flat(const Tensor& tensor) { return tensor.reshape({-1, tensor.size(-1)}); }

// Of float32 all through.
bool goes_by_blocks(const Tensor& x, const Tensor& weight) {
  return x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && x.dim() > 0 && x.numel() > 0 &&
         weight.dim() == 2 && cpu::goes_by_blocks(flat(x), weight.t());
}

// By cpu::product, forward and backward; `type` is the output's.
class LinearByProducts : public torch::autograd::Function<LinearByProducts> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        at::ScalarType type) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    // As LibTorch does: beside frozen weights, as adapters have them, the input need not stay.
    context->save_for_backward({weight.requires_grad() ? x : Tensor(), x.requires_grad() ? weight : Tensor()});
    remember_type(context, "x", x);
    remember_type(context, "weight", weight);
    if (bias && bias->defined()) remember_type(context, "bias", *bias);
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return cpu::product(flat(x), weight.t(), type, bias).view(shape);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const Tensor upstream = flat(grads[0]);
    variable_list result(4);
    if (context->needs_input_grad(0)) {
      std::vector<std::int64_t> shape = grads[0].sizes().vec();
      shape.back() = weight.size(1);
      result[0] = multiply(upstream, weight, type_of(context, "x")).view(shape);
    }
    if (context->needs_input_grad(1)) result[1] = multiply(upstream.t(), flat(x), type_of(context, "weight"));
    // An absent bias has no edge to ask about.
    if (context->saved_data.count("bias") > 0 && context->needs_input_grad(2))
      result[2] = upstream.sum(0, /*keepdim=*/false, type_of(context, "bias"));
    return result;
  }

 private:
  static void remember_type(AutogradContext* context, const char* name, const Tensor& tensor) {
    context->saved_data[name] = static_cast<std::int64_t>(tensor.scalar_type());
  }
  static at::ScalarType type_of(AutogradContext* context, const char* name) {
    return static_cast<at::ScalarType>(context->saved_data.at(name).toInt());
  }

  // Gradients of gradients come from LibTorch's products, which are differentiable.
  static Tensor multiply(const Tensor& a, const Tensor& b, at::ScalarType type) {
    if (!c10::GradMode::is_enabled()) return cpu::product(a, b, type);
    if (a.scalar_type() == type && b.scalar_type() == type) return at::mm(a, b);
    return at::mm(a.to(at::kFloat), b.to(at::kFloat)).to(type);
  }
};

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  RECORD_FUNCTION("oumi::linear", std::vector<c10::IValue>({x, weight}));
  const bool casts = at::autocast::is_autocast_enabled(at::kCPU);
  const bool autocast = casts && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
  if (!autocast && cpu::has_few_rows(x, weight, bias)) return cpu::linear_of_few_rows(x, weight, bias);
  const bool low = autocast || (x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16);
  if (low && cpu::have_loops({x, weight}) && x.dim() > 0 && x.numel() > 0 && weight.dim() == 2) {
    if (!cpu::has_bfloat16_products()) return LinearByProducts::apply(x, weight, bias, at::kBFloat16);
    // Under autocast, a weight is narrowed once for all its uses.
    const auto narrow = [](const Tensor& tensor) { return at::autocast::cached_cast(at::kBFloat16, tensor, c10::kCPU); };
    const Tensor low_x = autocast ? narrow(x) : x, low_weight = autocast ? narrow(weight) : weight;
    std::optional<Tensor> low_bias = bias;
    if (autocast && bias && bias->defined()) low_bias = narrow(*bias);
    if (cpu::goes_by_tiles(flat(low_x), low_weight.t()))
      return LinearByProducts::apply(low_x, low_weight, low_bias, at::kBFloat16);
    return at::linear(low_x, low_weight, low_bias);
  }
  if (!casts && goes_by_blocks(x, weight)) return LinearByProducts::apply(x, weight, bias, at::kFloat);
  return at::linear(x, weight, bias);
}

}  // namespace oumi::kernels
