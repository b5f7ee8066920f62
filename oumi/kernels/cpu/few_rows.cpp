#include "oumi/kernels/cpu/few_rows.h"

#include <ATen/ops/empty.h>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/matmul_float32.h"

namespace oumi::kernels::cpu {
namespace {

// So many rows are always few. Beyond them small weights stay with LibTorch: there is little to gain, and small models round as
// they do there.
constexpr std::int64_t kAlwaysFew = 4;
constexpr std::int64_t kLargeWeight = 1 << 16;  // values

// Beyond so many rows packing an operand is worth it: measured with AVX2. Where LibTorch's products or tiles are faster than
// blocks, as many as are multiplied while the weight comes from memory.
std::int64_t most_rows() { return has_blocks() ? 48 : 16; }

}  // namespace

bool has_few_rows(const Tensor& a, const Tensor& b) {
  return a.dim() == 2 && b.dim() == 2 && has_loops(a) && has_loops(b) && a.scalar_type() == b.scalar_type() && a.numel() > 0 &&
         a.size(0) <= (b.numel() < kLargeWeight ? kAlwaysFew : most_rows()) && a.size(1) == b.size(0) && b.t().is_contiguous();
}

Tensor multiply_few_rows(const Tensor& a, const Tensor& b, const Tensor& bias) {
  const std::int64_t rows = a.size(0), width = a.size(1), outputs = b.size(1);
  const Tensor wide = a.to(at::kFloat).contiguous(), sums = at::empty({rows, outputs}, wide.options());
  by_type(a.scalar_type(), [&](auto value) {
    using T = decltype(value);
    const FewRows<T> product{pointer<float>(wide), pointer<T>(b), pointer<float>(sums), rows, width, width, outputs};
    parallel_for(0, outputs, grain_of(2 * rows * width),
                 [&](std::int64_t first, std::int64_t last) { simd().loops<T>().few_rows(product, first, last); });
  });
  if (bias.defined()) sums.add_(bias);
  return sums.to(a.scalar_type());
}

}  // namespace oumi::kernels::cpu
