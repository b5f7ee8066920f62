#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/linear.h"

namespace oumi::kernels::cpu {
namespace {

// From about five rows on, the sums take longer than the memory, and tiles are better.
constexpr std::int64_t kMostRows = 4;

bool is_differentiated(const std::optional<Tensor>& tensor) { return tensor && tensor->defined() && tensor->requires_grad(); }

}  // namespace

bool has_few_rows(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  const auto fits = [&](const Tensor& tensor) { return has_loops(tensor) && tensor.scalar_type() == x.scalar_type(); };
  if (!fits(x) || !fits(weight) || (bias && bias->defined() && !fits(*bias))) return false;
  if (x.dim() == 0 || x.numel() == 0 || weight.dim() != 2 || !weight.is_contiguous() || x.size(-1) != weight.size(1))
    return false;
  if (x.numel() / x.size(-1) > kMostRows) return false;
  return !c10::GradMode::is_enabled() || !(x.requires_grad() || weight.requires_grad() || is_differentiated(bias));
}

Tensor linear_of_few_rows(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  const std::int64_t width = x.size(-1), rows = x.numel() / width, outputs = weight.size(0);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = outputs;
  const Tensor wide = x.to(at::kFloat).contiguous(), sums = at::empty({rows, outputs}, wide.options());
  by_type(x.scalar_type(), [&](auto value) {
    using T = decltype(value);
    const FewRows<T> product{pointer<float>(wide), pointer<T>(weight), pointer<float>(sums), rows, width, outputs};
    parallel_for(0, outputs, grain_of(2 * rows * width),
                 [&](std::int64_t first, std::int64_t last) { simd().loops<T>().few_rows(product, first, last); });
  });
  if (bias && bias->defined()) sums.add_(*bias);
  return sums.to(x.scalar_type()).view(shape);
}

}  // namespace oumi::kernels::cpu
