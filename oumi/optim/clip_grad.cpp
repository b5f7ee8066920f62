#include "oumi/optim/clip_grad.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <map>
#include <utility>

#include "oumi/kernels/squared_norm.h"

namespace oumi {
namespace {

std::vector<Tensor> gradients(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> found;
  for (const Tensor& parameter : parameters) {
    if (const Tensor& gradient = parameter.grad(); gradient.defined()) found.push_back(gradient);
  }
  return found;
}

bool is_half(const Tensor& tensor) { return tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16; }

Tensor norm_of(const Tensor& gradient) {
  if (!is_half(gradient)) return at::linalg_vector_norm(gradient);
  if (kernels::has_squared_norm(gradient)) return at::full({}, std::sqrt(kernels::squared_norm(gradient)), at::kFloat);
  return at::linalg_vector_norm(gradient, 2, at::OptionalIntArrayRef(), false, at::kFloat);
}

}  // namespace

Tensor grad_norm(const std::vector<Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  const std::vector<Tensor> found = gradients(parameters);
  if (found.empty()) return at::zeros({}, at::kFloat);
  std::vector<Tensor> norms;
  norms.reserve(found.size());
  bool wide = false;
  for (const Tensor& gradient : found) {
    norms.push_back(norm_of(gradient).to(found.front().device(), /*non_blocking=*/true));
    wide = wide || gradient.scalar_type() == at::kDouble;
  }
  if (wide) {
    for (Tensor& norm : norms) norm = norm.to(at::kDouble);
  }
  return at::linalg_vector_norm(at::stack(norms));
}

void scale_grads_to_norm(const std::vector<Tensor>& parameters, const Tensor& norm, double max_norm) {
  if (!(max_norm > 0)) return;
  const at::NoGradGuard no_grad;
  // Python's number / tensor multiplies by the reciprocal; C++'s divides, which rounds differently.
  const Tensor coefficient = (norm + 1e-6).reciprocal().mul_(max_norm).clamp_max_(1.0);
  // On the CPU the value is at hand: the common case, nothing to clip, then costs no pass over the gradients.
  if (coefficient.is_cpu() && coefficient.item<double>() == 1.0) return;
  std::map<std::pair<std::int64_t, at::ScalarType>, std::vector<Tensor>> by_kind;
  for (const Tensor& gradient : gradients(parameters)) {
    const auto device = (static_cast<std::int64_t>(gradient.device().type()) << 8) + gradient.device().index();
    by_kind[{device, gradient.scalar_type()}].push_back(gradient);
  }
  for (auto& [kind, list] : by_kind) at::_foreach_mul_(list, coefficient.to(list.front().device(), /*non_blocking=*/true));
}

Tensor clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm) {
  const Tensor norm = grad_norm(parameters);
  scale_grads_to_norm(parameters, norm, max_norm);
  return norm;
}

}  // namespace oumi
