#include "oumi/kernels/linears_with_updates.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/matmul_float32.h"
#include "oumi/kernels/linear.h"

namespace oumi::kernels {
namespace {

using cpu::ProductTerm;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor matrix_of(const Tensor& tensor) { return tensor.reshape({-1, tensor.size(-1)}); }
Tensor packed_matrix(const Tensor& matrix) { return cpu::is_packed_matrix(matrix) ? matrix : matrix.contiguous(); }

Tensor by_blocks(at::ArrayRef<ProductTerm> terms, at::IntArrayRef shape, at::ScalarType type) {
  const Tensor out = at::empty(shape, at::TensorOptions(type));
  cpu::multiply_by_blocks(terms, {}, out, /*add=*/false);
  return out;
}

// Products whose results are differentiated in turn are LibTorch's.
Tensor differentiable(const Tensor& a, const Tensor& b) { return at::mm(a.to(at::kFloat), b.to(at::kFloat)); }

// What the function needs beside its tensors.
struct UpdateCall {
  at::ScalarType type;              // of the outputs
  std::vector<std::size_t> biased;  // the layers that have a bias
  std::vector<double> scalings;
};

// The columns of layer i in a matrix that has those of all layers side by side.
Tensor part_of(const Tensor& columns, std::size_t i, std::int64_t rank) {
  return columns.narrow(1, static_cast<std::int64_t>(i) * rank, rank);
}

// The a of all layers, one below the other.
Tensor stacked(at::ArrayRef<Tensor> factors) {
  if (factors.size() == 2) return packed_matrix(factors[0]);
  std::vector<Tensor> list;
  for (std::size_t i = 0; i < factors.size(); i += 2) list.push_back(factors[i]);
  return at::cat(list);
}

// Factors are a, b, a, b, ... of all layers.
class LinearsWithUpdates : public torch::autograd::Function<LinearsWithUpdates> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& adapted, at::TensorList weights,
                               at::TensorList biases, at::TensorList factors, const UpdateCall& call) {
    const std::size_t layers = weights.size();
    const std::int64_t rank = factors[0].size(0), ranks = rank * static_cast<std::int64_t>(layers);
    const Tensor rows = packed_matrix(matrix_of(x)),
                 adapted_rows = adapted.is_same(x) ? rows : packed_matrix(matrix_of(adapted));
    const Tensor reduced = by_blocks(ProductTerm{adapted_rows, stacked(factors).t()}, {rows.size(0), ranks}, at::kFloat);
    std::vector<Tensor> transposed, parts, scaled, bias_of(layers), outs;
    for (std::size_t i = 0; i < layers; ++i) {
      transposed.push_back(weights[i].t());
      parts.push_back(part_of(reduced, i, rank));
      scaled.push_back((factors[2 * i + 1] * call.scalings[i]).t());
      outs.push_back(at::empty({rows.size(0), weights[i].size(0)}, x.options().dtype(call.type)));
    }
    for (std::size_t i = 0; i < biases.size(); ++i) bias_of[call.biased[i]] = biases[i];
    cpu::multiply_by_blocks({ProductTerm{rows, transposed}, ProductTerm{parts, scaled}}, bias_of, outs, /*add=*/false);
    variable_list saved{adapted, reduced};
    saved.insert(saved.end(), factors.begin(), factors.end());
    if (x.requires_grad()) saved.insert(saved.end(), weights.begin(), weights.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["scalings"] = call.scalings;
    context->saved_data["same"] = adapted.is_same(x);
    context->saved_data["type"] = static_cast<std::int64_t>(x.scalar_type());
    context->saved_data["biases"] = static_cast<std::int64_t>(biases.size());
    std::vector<std::int64_t> shape = x.sizes().vec();
    for (Tensor& out : outs) {
      shape.back() = out.size(1);
      out = out.view(shape);
    }
    return outs;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const std::size_t layers = grads.size(), biases = static_cast<std::size_t>(context->saved_data["biases"].toInt());
    const std::vector<Tensor> factors(saved.begin() + 2, saved.begin() + 2 + static_cast<std::ptrdiff_t>(2 * layers));
    const std::vector<Tensor> weights(saved.begin() + 2 + static_cast<std::ptrdiff_t>(2 * layers), saved.end());
    const auto scalings = context->saved_data["scalings"].toDoubleVector();
    const bool same = context->saved_data["same"].toBool(), twice = c10::GradMode::is_enabled();
    const std::int64_t rank = factors[0].size(0);
    const Tensor &adapted = saved[0], rows = packed_matrix(matrix_of(adapted)), a = stacked(factors);
    const std::int64_t count = rows.size(0);
    const auto product = [&](const Tensor& left, const Tensor& right, at::ScalarType type) {
      return twice ? differentiable(left, right).to(type)
                   : by_blocks(ProductTerm{left, right}, {left.size(0), right.size(1)}, type);
    };
    // Gradients of gradients need what forward kept as a value.
    const Tensor reduced = twice ? differentiable(rows, a.t()) : saved[1];

    variable_list result(2 + layers + biases + 2 * layers + 1);
    const std::size_t first_factor = 2 + layers + biases;
    const auto needs = [&](std::size_t input) { return context->needs_input_grad(input); };
    std::vector<Tensor> upstream, reduced_grads;
    for (std::size_t i = 0; i < layers; ++i) {
      upstream.push_back(packed_matrix(matrix_of(grads[i])));
      const std::size_t b = first_factor + 2 * i + 1;
      if (needs(b)) result[b] = product(upstream[i].t(), part_of(reduced, i, rank), at::kFloat) * scalings[i];
    }
    bool needs_a = false;
    for (std::size_t i = 0; i < layers; ++i) needs_a = needs_a || needs(first_factor + 2 * i);
    if (!needs(0) && !needs(1) && !needs_a) return result;

    for (std::size_t i = 0; i < layers; ++i)
      reduced_grads.push_back(product(upstream[i], factors[2 * i + 1] * scalings[i], at::kFloat));
    const Tensor reduced_grad = layers == 1 ? reduced_grads[0] : at::cat(reduced_grads, 1);
    if (needs_a) {
      const Tensor grad = product(rows.t(), reduced_grad, at::kFloat);
      for (std::size_t i = 0; i < layers; ++i) {
        if (needs(first_factor + 2 * i)) result[first_factor + 2 * i] = part_of(grad, i, rank).t().contiguous();
      }
    }
    if (needs(1) && !same) result[1] = product(reduced_grad, a, adapted.scalar_type()).view(adapted.sizes());
    if (!needs(0)) return result;
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    if (twice) {
      Tensor sum = differentiable(upstream[0], weights[0]);
      for (std::size_t i = 1; i < layers; ++i) sum = sum + differentiable(upstream[i], weights[i]);
      if (same) sum = sum + differentiable(reduced_grad, a);
      result[0] = sum.to(type).view(adapted.sizes());
      return result;
    }
    std::vector<ProductTerm> terms;
    for (std::size_t i = 0; i < layers; ++i) terms.push_back({upstream[i], weights[i]});
    if (same) terms.push_back({reduced_grad, a});
    result[0] = by_blocks(terms, {count, a.size(1)}, type).view(adapted.sizes());
    return result;
  }
};

bool is_differentiated(const Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

bool go_together(const Tensor& x, const Tensor& adapted, at::ArrayRef<Tensor> weights, at::ArrayRef<Tensor> biases,
                 at::ArrayRef<LowRankFactors> updates) {
  if (at::autocast::is_autocast_enabled(at::kCPU) || x.dim() == 0 || x.numel() == 0 || !cpu::have_loops({x, adapted}) ||
      adapted.sizes() != x.sizes()) {
    return false;
  }
  const Tensor rows = packed_matrix(matrix_of(x));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Tensor &weight = weights[i], &bias = biases[i], &a = updates[i].a, &b = updates[i].b;
    if (weight.dim() != 2 || weight.scalar_type() != x.scalar_type() || is_differentiated(weight) || is_differentiated(bias) ||
        !cpu::goes_by_blocks(rows, weight.t())) {
      return false;
    }
    if (bias.defined() && (!cpu::has_loops(bias) || bias.dim() != 1 || bias.size(0) != weight.size(0))) return false;
    const bool fits = a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat && cpu::is_packed_matrix(a) &&
                      cpu::is_packed_matrix(b) && a.size(0) > 0 && a.size(0) == b.size(1) && a.size(1) == weight.size(1) &&
                      b.size(0) == weight.size(0) && a.size(0) == updates[0].a.size(0);
    if (!fits) return false;
  }
  return true;
}

}  // namespace

std::vector<Tensor> linears_with_updates(const Tensor& x, const Tensor& adapted, at::ArrayRef<Tensor> weights,
                                         at::ArrayRef<Tensor> biases, at::ArrayRef<LowRankFactors> updates) {
  if (!go_together(x, adapted, weights, biases, updates)) {
    std::vector<Tensor> outs;
    if (weights.size() > 1) {
      for (std::size_t i = 0; i < weights.size(); ++i)
        outs.push_back(linears_with_updates(x, adapted, weights[i], biases[i], updates[i])[0]);
    } else {
      const auto& [a, b, scaling] = updates[0];
      outs = linears(x, weights, biases);
      outs[0] = low_rank_update(outs[0], adapted, a, b, scaling);
    }
    return outs;
  }
  RECORD_FUNCTION("oumi::linears_with_updates", std::vector<c10::IValue>({x}));
  UpdateCall call{x.scalar_type(), {}, {}};
  std::vector<Tensor> factors, defined;
  for (std::size_t i = 0; i < updates.size(); ++i) {
    call.scalings.push_back(updates[i].scaling);
    factors.insert(factors.end(), {updates[i].a, updates[i].b});
    if (!biases[i].defined()) continue;
    defined.push_back(biases[i]);
    call.biased.push_back(i);
  }
  return LinearsWithUpdates::apply(x, adapted, weights, at::TensorList(defined), at::TensorList(factors), call);
}

}  // namespace oumi::kernels
