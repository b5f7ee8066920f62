#include "oumi/kernels/cpu/few_rows.h"

#include <ATen/ops/empty.h>

#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels::cpu {
namespace {

// From about five rows on, the sums take longer than the memory, and tiles are better.
constexpr std::int64_t kMostRows = 4;

}  // namespace

bool has_few_rows(const Tensor& a, const Tensor& b) {
  return a.dim() == 2 && b.dim() == 2 && has_loops(a) && has_loops(b) && a.scalar_type() == b.scalar_type() && a.numel() > 0 &&
         a.size(0) <= kMostRows && a.size(1) == b.size(0) && b.t().is_contiguous();
}

Tensor multiply_few_rows(const Tensor& a, const Tensor& b, const Tensor& bias) {
  const std::int64_t rows = a.size(0), width = a.size(1), outputs = b.size(1);
  const Tensor wide = a.to(at::kFloat).contiguous(), sums = at::empty({rows, outputs}, wide.options());
  by_type(a.scalar_type(), [&](auto value) {
    using T = decltype(value);
    const FewRows<T> product{pointer<float>(wide), pointer<T>(b), pointer<float>(sums), rows, width, outputs};
    parallel_for(0, outputs, grain_of(2 * rows * width),
                 [&](std::int64_t first, std::int64_t last) { simd().loops<T>().few_rows(product, first, last); });
  });
  if (bias.defined()) sums.add_(bias);
  return sums.to(a.scalar_type());
}

}  // namespace oumi::kernels::cpu
