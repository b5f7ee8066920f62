#include "oumi/kernels/linear.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/few_rows.h"
#include "oumi/kernels/cpu/matmul_bfloat16.h"
#include "oumi/kernels/cpu/matmul_float32.h"
#include "oumi/kernels/cpu/matrix_product.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor flat(const Tensor& tensor) { return tensor.reshape({-1, tensor.size(-1)}); }

bool casts_to_bfloat16() {
  return at::autocast::is_autocast_enabled(at::kCPU) && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
}

// Whether the result is bfloat16.
bool is_low(const Tensor& x, const Tensor& weight) {
  return casts_to_bfloat16() || (x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16);
}

bool has_rows(const Tensor& x) { return x.dim() > 0 && x.numel() > 0; }

// Of float32 all through. `rows` is x, flat.
bool is_float32_by_blocks(const Tensor& rows, const Tensor& weight) {
  return rows.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && weight.dim() == 2 &&
         cpu::goes_by_blocks(rows, weight.t());
}

// x weights[i]^T + biases[i] as `type`; biases may be undefined.
variable_list products_of(const Tensor& x, at::ArrayRef<Tensor> weights, at::ArrayRef<Tensor> biases, at::ScalarType type) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  std::vector<Tensor> transposed;
  for (const Tensor& weight : weights) transposed.push_back(weight.t());
  variable_list outs = cpu::products(flat(x), transposed, std::vector<at::ScalarType>(weights.size(), type), biases);
  std::vector<std::int64_t> shape = x.sizes().vec();
  for (Tensor& out : outs) {
    shape.back() = out.size(1);
    out = out.view(shape);
  }
  return outs;
}

// What LinearByProducts needs beside its tensors.
struct LinearCall {
  at::ScalarType type;              // of the outputs
  std::vector<std::size_t> biased;  // the layers that have a bias
};

// By cpu::products, forward and backward, of one input and one or more layers; `biases` are those of call.biased.
class LinearByProducts : public torch::autograd::Function<LinearByProducts> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& x, at::TensorList weights, at::TensorList biases,
                               const LinearCall& call) {
    // As LibTorch does: beside frozen weights, as adapters have them, the input need not stay.
    variable_list saved{Tensor()};
    std::vector<Tensor> bias_of(weights.size());
    std::vector<std::int64_t> types{static_cast<std::int64_t>(x.scalar_type())}, biased;
    for (const Tensor& weight : weights) {
      if (weight.requires_grad()) saved[0] = x;
      saved.push_back(x.requires_grad() ? weight : Tensor());
      types.push_back(static_cast<std::int64_t>(weight.scalar_type()));
    }
    for (std::size_t i = 0; i < biases.size(); ++i) {
      types.push_back(static_cast<std::int64_t>(biases[i].scalar_type()));
      biased.push_back(static_cast<std::int64_t>(call.biased[i]));
      bias_of[call.biased[i]] = biases[i];
    }
    context->saved_data["biased"] = std::move(biased);
    context->save_for_backward(std::move(saved));
    context->saved_data["types"] = std::move(types);
    return products_of(x, weights, bias_of, call.type);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    const auto types = context->saved_data.at("types").toIntVector();
    const auto type_of = [&](std::size_t input) { return static_cast<at::ScalarType>(types[input]); };
    const std::size_t layers = grads.size();
    std::vector<Tensor> upstream;
    for (const Tensor& grad : grads) upstream.push_back(flat(grad));
    const auto biased = context->saved_data.at("biased").toIntVector();
    variable_list result(layers + biased.size() + 2);
    if (context->needs_input_grad(0)) {
      const std::vector<Tensor> weights(saved.begin() + 1, saved.end());
      std::vector<std::int64_t> shape = grads[0].sizes().vec();
      shape.back() = weights[0].size(1);
      result[0] = sum(upstream, weights, type_of(0)).view(shape);
    }
    for (std::size_t i = 0; i < biased.size(); ++i) {
      const std::size_t input = 1 + layers + i;
      if (context->needs_input_grad(input))
        result[input] = upstream[static_cast<std::size_t>(biased[i])].sum(0, /*keepdim=*/false, type_of(input));
    }
    std::vector<std::size_t> trained;
    for (std::size_t i = 0; i < layers; ++i) {
      if (context->needs_input_grad(1 + i)) trained.push_back(i);
    }
    if (trained.empty()) return result;
    std::vector<Tensor> transposed;
    std::vector<at::ScalarType> weight_types;
    for (const std::size_t i : trained) {
      transposed.push_back(upstream[i].t());
      weight_types.push_back(type_of(1 + i));
    }
    const std::vector<Tensor> weight_grads = each(transposed, flat(saved[0]), weight_types);
    for (std::size_t i = 0; i < trained.size(); ++i) result[1 + trained[i]] = weight_grads[i];
    return result;
  }

 private:
  // Gradients of gradients come from LibTorch's products, which are differentiable.
  static Tensor differentiable(const Tensor& a, const Tensor& b, at::ScalarType type) {
    if (a.scalar_type() == type && b.scalar_type() == type) return at::mm(a, b);
    return at::mm(a.to(at::kFloat), b.to(at::kFloat)).to(type);
  }

  static Tensor sum(const std::vector<Tensor>& a, const std::vector<Tensor>& b, at::ScalarType type) {
    if (!c10::GradMode::is_enabled()) return cpu::sum_of_products(a, b, type);
    Tensor sum = differentiable(a[0], b[0], type);
    for (std::size_t i = 1; i < a.size(); ++i) sum = sum + differentiable(a[i], b[i], type);
    return sum;
  }

  static std::vector<Tensor> each(const std::vector<Tensor>& a, const Tensor& b, const std::vector<at::ScalarType>& types) {
    if (!c10::GradMode::is_enabled()) return cpu::products(a, b, types, std::vector<Tensor>(a.size()));
    std::vector<Tensor> products;
    for (std::size_t i = 0; i < a.size(); ++i) products.push_back(differentiable(a[i], b, types[i]));
    return products;
  }
};

// Biases may be undefined.
variable_list by_products_of(const Tensor& x, at::TensorList weights, at::TensorList biases, at::ScalarType type) {
  if (!c10::GradMode::is_enabled()) return products_of(x, weights, biases, type);
  LinearCall call{type, {}};
  std::vector<Tensor> defined;
  for (std::size_t i = 0; i < biases.size(); ++i) {
    if (!biases[i].defined()) continue;
    defined.push_back(biases[i]);
    call.biased.push_back(i);
  }
  return LinearByProducts::apply(x, weights, at::TensorList(defined), call);
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  RECORD_FUNCTION("oumi::linear", std::vector<c10::IValue>({x, weight}));
  const auto by_products = [](const Tensor& input, const Tensor& matrix, const std::optional<Tensor>& added,
                              at::ScalarType type) { return by_products_of(input, matrix, added.value_or(Tensor()), type)[0]; };
  const bool casts = at::autocast::is_autocast_enabled(at::kCPU), autocast = casts_to_bfloat16();
  // With gradients or without, so that a layer run again for its gradients (activation checkpointing) gives the same bits.
  if (!casts && has_rows(x) && weight.dim() == 2 && cpu::has_few_rows(flat(x), weight.t()))
    return by_products(x, weight, bias, x.scalar_type());
  if (is_low(x, weight) && cpu::have_loops({x, weight}) && has_rows(x) && weight.dim() == 2) {
    if (!cpu::has_bfloat16_products()) return by_products(x, weight, bias, at::kBFloat16);
    // Under autocast, a weight is narrowed once for all its uses.
    const auto narrow = [](const Tensor& tensor) { return at::autocast::cached_cast(at::kBFloat16, tensor, c10::kCPU); };
    const Tensor low_x = autocast ? narrow(x) : x, low_weight = autocast ? narrow(weight) : weight;
    std::optional<Tensor> low_bias = bias;
    if (autocast && bias && bias->defined()) low_bias = narrow(*bias);
    if (cpu::goes_by_tiles(flat(low_x), low_weight.t())) return by_products(low_x, low_weight, low_bias, at::kBFloat16);
    return at::linear(low_x, low_weight, low_bias);
  }
  if (!casts && has_rows(x) && is_float32_by_blocks(flat(x), weight)) return by_products(x, weight, bias, at::kFloat);
  return at::linear(x, weight, bias);
}

std::vector<Tensor> linears(const Tensor& x, at::ArrayRef<Tensor> weights, at::ArrayRef<Tensor> biases) {
  const bool casts = at::autocast::is_autocast_enabled(at::kCPU);
  const Tensor rows = has_rows(x) ? flat(x) : Tensor();
  const auto goes = [&](const Tensor& weight, bool low) {
    if (!rows.defined() || weight.dim() != 2 || is_low(x, weight) != low || cpu::has_few_rows(rows, weight.t())) return false;
    return low ? !cpu::has_bfloat16_products() && cpu::goes_by_blocks(rows, weight.t())
               : !casts && is_float32_by_blocks(rows, weight);
  };
  for (const bool low : {false, true}) {
    if (!std::all_of(weights.begin(), weights.end(), [&](const Tensor& weight) { return goes(weight, low); })) continue;
    RECORD_FUNCTION("oumi::linears", std::vector<c10::IValue>({x}));
    return by_products_of(x, weights, biases, low ? at::kBFloat16 : at::kFloat);
  }
  std::vector<Tensor> outs;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    outs.push_back(kernels::linear(x, weights[i], biases[i].defined() ? std::optional<Tensor>(biases[i]) : std::nullopt));
  }
  return outs;
}

}  // namespace oumi::kernels
