#include "oumi/kernels/linear.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

Tensor random(at::IntArrayRef shape, at::ScalarType type = at::kBFloat16) { return at::randn(shape, at::kDouble).to(type); }

Tensor wide(const Tensor& tensor) { return tensor.to(at::kDouble); }

TEST(Linear, OfFewRowsIsRoundedOnce) {
  at::manual_seed(3);
  const c10::AutoGradMode no_grad(false);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const std::int64_t rows : {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 47, 48, 49}) {
      for (const auto& [width, outputs] :
           {std::pair{1, 1}, std::pair{576, 192}, std::pair{33, 7}, std::pair{1000, 513}, std::pair{7, 9400}}) {
        const Tensor x = random({rows, 1, width}, type), weight = random({outputs, width}, type),
                     bias = random({outputs}, type);
        for (const std::optional<Tensor>& b : {std::optional<Tensor>(), std::optional<Tensor>(bias)}) {
          const Tensor exact = at::linear(wide(x), wide(weight), b ? std::optional<Tensor>(wide(*b)) : std::nullopt);
          const Tensor result = kernels::linear(x, weight, b);
          ASSERT_EQ(result.scalar_type(), type);
          ASSERT_EQ(result.sizes(), exact.sizes());
          // Half a unit in the type's last place, and what float32 sums lose where terms cancel.
          const Tensor lost = at::linear(wide(x).abs(), wide(weight).abs()).mul(2e-6);
          const Tensor bound = exact.abs().mul(type == at::kFloat ? 1.2e-7 : 1.0 / 256).add(lost);
          EXPECT_TRUE((wide(result) - exact).abs().le(bound).all().item<bool>())
              << type << " " << rows << " x " << width << " x " << outputs;
        }
      }
    }
  }
}

TEST(Linear, OfFewRowsTakesStridedInputAndRepeatsBitForBit) {
  at::manual_seed(4);
  const c10::AutoGradMode no_grad(false);
  const Tensor hidden = random({4, 9, 64}), weight = random({48, 64}), x = hidden.select(1, 8);
  ASSERT_FALSE(x.is_contiguous());
  const Tensor result = kernels::linear(x, weight, {});
  EXPECT_TRUE(result.equal(kernels::linear(x.contiguous(), weight, {})));
}

// A sequence's answer does not change with those that are answered beside it.
TEST(Linear, OfFewRowsGivesARowTheSameBitsWhateverIsBesideIt) {
  at::manual_seed(6);
  const c10::AutoGradMode no_grad(false);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const Tensor x = random({16, 350}, type), weight = random({401, 350}, type);
    const Tensor result = kernels::linear(x, weight, {});
    for (const std::int64_t rows : {1, 2, 3, 4, 5, 7, 11}) {
      for (const std::int64_t first : {0, 5}) {
        EXPECT_TRUE(result.narrow(0, first, rows).equal(kernels::linear(x.narrow(0, first, rows), weight, {})))
            << type << ", " << rows << " from " << first;
      }
    }
    EXPECT_TRUE(kernels::linears(x, {weight, weight}, {Tensor(), Tensor()})[1].equal(result));
  }
}

TEST(Linear, OfFewRowsIsDifferentiable) {
  at::manual_seed(5);
  const Tensor x = random({2, 16}).requires_grad_(true), weight = random({8, 16}).requires_grad_(true);
  const Tensor y = kernels::linear(x, weight, {});
  ASSERT_TRUE(y.requires_grad());
  const auto gradients = torch::autograd::grad({y}, {x, weight}, {at::ones_like(y)});
  oumi::testing::expect_close(gradients[0], wide(weight.detach()).sum(0).expand({2, 16}), {1e-2, 1e-2}, "x");
  oumi::testing::expect_close(gradients[1], wide(x.detach()).sum(0).expand({8, 16}), {1e-2, 1e-2}, "weight");
}

}  // namespace
}  // namespace oumi::kernels
