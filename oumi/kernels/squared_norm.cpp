#include "oumi/kernels/squared_norm.h"

#include <numeric>
#include <vector>

#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels {

bool has_squared_norm(const Tensor& tensor) {
  return cpu::has_loops(tensor) && tensor.scalar_type() == at::kBFloat16 && tensor.is_contiguous();
}

double squared_norm(const Tensor& tensor) {
  constexpr std::int64_t kBlock = 16384;
  const std::int64_t size = tensor.numel(), blocks = (size + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  const auto* values = cpu::pointer<cpu::BFloat16>(tensor);
  cpu::parallel_for(0, blocks, cpu::grain_of(2 * kBlock), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const auto* from = values + block * kBlock;
      sums[static_cast<std::size_t>(block)] = cpu::simd().bfloat16.dot(from, from, std::min(kBlock, size - block * kBlock));
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace oumi::kernels
