#include "oumi/kernels/squared_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace oumi::kernels {
namespace {

TEST(SquaredNorm, IsTheSumOfSquares) {
  at::manual_seed(2);
  for (const std::int64_t size : {1, 15, 16384, 16385, 1'000'003}) {
    const Tensor x = at::randn({size}).to(at::kBFloat16);
    const double exact = x.to(at::kDouble).square().sum().item<double>();
    EXPECT_NEAR(squared_norm(x), exact, 1e-5 * exact) << size;
  }
  EXPECT_EQ(squared_norm(at::empty({0, 3}, at::kBFloat16)), 0);
}

TEST(SquaredNorm, DoesNotDependOnThreadsAndKeepsWhatIsNotFinite) {
  at::manual_seed(3);
  const Tensor x = at::randn({300'000}).to(at::kBFloat16);
  const int threads = at::get_num_threads();
  const double together = squared_norm(x);
  at::set_num_threads(1);
  EXPECT_EQ(together, squared_norm(x));
  at::set_num_threads(threads);
  x[299'999] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isinf(squared_norm(x)));
  x[17] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(squared_norm(x)));
}

TEST(SquaredNorm, TakesContiguousBFloat16Alone) {
  EXPECT_TRUE(has_squared_norm(at::empty({4, 5}, at::kBFloat16)));
  EXPECT_FALSE(has_squared_norm(at::empty({4, 5}, at::kBFloat16).t()));
  EXPECT_FALSE(has_squared_norm(at::empty({4, 5})));
  EXPECT_FALSE(has_squared_norm(at::empty({4, 5}, at::kHalf)));
}

}  // namespace
}  // namespace oumi::kernels
