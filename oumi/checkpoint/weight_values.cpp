#include "oumi/checkpoint/weight_values.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr std::int64_t kGrain = std::int64_t{1} << 18;

// How many of `count` values have an exponent of at least `limit`, both as they lie in the value's bits.
template <class Bits>
std::int64_t count_exponents(const void* data, std::int64_t count, Bits mask, Bits limit) {
  const Bits* values = static_cast<const Bits*>(data);
  std::atomic<std::int64_t> total{0};
  at::parallel_for(0, count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t found = 0;
    // In pieces whose count fits the value's own width, so that a vector register counts as many as it holds.
    for (std::int64_t piece = begin; piece < end; piece += 1 << 12) {
      Bits in_piece = 0;
      for (std::int64_t i = piece; i < std::min(end, piece + (1 << 12)); ++i) in_piece += (values[i] & mask) >= limit;
      found += static_cast<std::int64_t>(in_piece);
    }
    total += found;
  });
  return total;
}

std::int64_t count_implausible(const Tensor& tensor) {
  const Tensor values = tensor.cpu().contiguous();
  const void* data = values.const_data_ptr();
  const std::int64_t count = values.numel();
  constexpr int kBound = 64;  // 2^64
  switch (values.scalar_type()) {
    case at::kFloat: return count_exponents<std::uint32_t>(data, count, 0x7f800000u, std::uint32_t{127 + kBound} << 23);
    case at::kBFloat16: return count_exponents<std::uint16_t>(data, count, 0x7f80u, std::uint16_t((127 + kBound) << 7));
    case at::kHalf: return count_exponents<std::uint16_t>(data, count, 0x7c00u, 0x7c00u);
    case at::kDouble:
      return count_exponents<std::uint64_t>(data, count, 0x7ff0000000000000u, std::uint64_t{1023 + kBound} << 52);
    default: return 0;
  }
}

}  // namespace

void check_weight_values(const StateDict& weights, const std::string& origin) {
  for (const auto& [name, tensor] : weights) {
    if (!tensor.defined() || tensor.is_meta() || tensor.layout() != c10::kStrided) continue;
    const std::int64_t bad = count_implausible(tensor);
    if (bad == 0) continue;
    throw UserError(origin,
                    cat("tensor '", name, "': expected weights, got ", bad, " of ", tensor.numel(),
                        " values that are NaN, infinite or too large"),
                    "the file is damaged, or of a training that diverged; fetch or save it again");
  }
}

}  // namespace oumi
