#include "oumi/kernels/cpu/matmul_bfloat16.h"

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>

#include <limits>

#include "oumi/base/strings.h"
#include "oumi/kernels/cpu/matrix_product.h"
#include "oumi/kernels/linear.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

class TileProductTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(11);
    if (!cpu::goes_by_tiles(random(64, 256), random(256, 64))) GTEST_SKIP() << "this processor multiplies bfloat16 another way";
  }

  static Tensor random(std::int64_t rows, std::int64_t columns, bool transposed = false) {
    const Tensor made =
        at::randn(transposed ? at::IntArrayRef{columns, rows} : at::IntArrayRef{rows, columns}).to(at::kBFloat16);
    return transposed ? made.t() : made;
  }

  static Tensor product(const Tensor& a, const Tensor& b, const std::optional<Tensor>& bias = {}) {
    return cpu::product(a, b, at::kBFloat16, bias);
  }

  static Tensor wide(const Tensor& tensor) { return tensor.to(at::kDouble); }

  // Half a unit in the last place of `type`, and what float32 sums lose where terms cancel.
  static void expect_near(const Tensor& result, const Tensor& exact, const Tensor& magnitude, double rounding,
                          const std::string& what) {
    const Tensor bound = exact.abs() * rounding + magnitude * 4e-6;
    EXPECT_TRUE((wide(result) - exact).abs().le(bound).all().item<bool>()) << what;
  }
};

TEST_F(TileProductTest, IsExactUpToItsRoundingAtOddSizesInEveryLayout) {
  struct Size {
    std::int64_t m, n, k;
  };
  // Tails of every kind, several parts of the inner size, several tasks.
  for (const Size size : {Size{64, 64, 256}, Size{2048, 192, 64}, Size{33, 16, 4098}, Size{65, 17, 1000}, Size{127, 1001, 66},
                          Size{32, 769, 2050}, Size{1000, 385, 2112}, Size{40, 5000, 128}}) {
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        const Tensor a = random(size.m, size.k, a_transposed), b = random(size.k, size.n, b_transposed),
                     bias = random(1, size.n)[0];
        const std::string what =
            cat(size.m, " x ", size.n, " x ", size.k, a_transposed ? " a^T" : "", b_transposed ? " b^T" : "");
        ASSERT_TRUE(cpu::goes_by_tiles(a, b)) << what;
        const Tensor exact = at::mm(wide(a), wide(b)), magnitude = at::mm(wide(a).abs(), wide(b).abs());
        expect_near(product(a, b), exact, magnitude, 1.0 / 256, what);
        expect_near(product(a, b, bias), exact + wide(bias), magnitude + wide(bias).abs(), 1.0 / 256, what + " + bias");
        const Tensor sums = at::full({size.m, size.n}, 3.0f);
        cpu::add_product(sums, a, b);
        expect_near(sums, exact + 3, magnitude + 3, 0, what + " added");
      }
    }
  }
}

TEST_F(TileProductTest, OddInnerSizesAreTakenWhereTheLeftOperandIsPacked) {
  const Tensor a = random(100, 333, /*transposed=*/true), b = random(333, 48);
  ASSERT_TRUE(cpu::goes_by_tiles(a, b));
  expect_near(product(a, b), at::mm(wide(a), wide(b)), at::mm(wide(a).abs(), wide(b).abs()), 1.0 / 256, "odd");
  EXPECT_FALSE(cpu::goes_by_tiles(random(100, 333), b));
  EXPECT_FALSE(cpu::goes_by_tiles(a, random(333, 48, /*transposed=*/true)));
}

TEST_F(TileProductTest, ReadsAndWritesPartsOfLargerMatricesAlone) {
  const Tensor whole = random(80, 300), a = whole.slice(1, 10, 202), b = random(400, 96).slice(0, 5, 197);
  const Tensor target = at::full({80, 200}, 7.0f).to(at::kBFloat16), out = target.slice(1, 50, 146);
  ASSERT_TRUE(cpu::goes_by_tiles(a, b));
  cpu::product_into(out, a, b);
  EXPECT_TRUE(out.equal(product(a.contiguous(), b.contiguous())));
  EXPECT_TRUE(target.slice(1, 0, 50).eq(7).all().item<bool>());
  EXPECT_TRUE(target.slice(1, 146).eq(7).all().item<bool>());
}

TEST_F(TileProductTest, AnElementDependsNeitherOnItsNeighboursNorOnThreads) {
  const Tensor a = random(700, 2176, /*transposed=*/true), b = random(2176, 800);
  const Tensor result = product(a, b);
  EXPECT_TRUE(result.slice(0, 64, 128).slice(1, 320, 448).equal(product(a.slice(0, 64, 128), b.slice(1, 320, 448))));
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor alone = product(a, b);
  at::set_num_threads(threads);
  EXPECT_TRUE(result.equal(alone));
}

TEST_F(TileProductTest, InfinitiesAndNotANumbersGoWhereTheyBelong) {
  const Tensor a = random(64, 256), b = random(256, 64);
  a[3][5] = std::numeric_limits<float>::infinity();
  a[40][1] = std::numeric_limits<float>::quiet_NaN();
  const Tensor result = product(a, b), finite = result.isfinite().all(1);
  EXPECT_TRUE(result[40].isnan().all().item<bool>());
  EXPECT_TRUE(result[3].isinf().all().item<bool>());
  EXPECT_EQ(finite.sum().item<std::int64_t>(), 62);
}

TEST_F(TileProductTest, LinearHasItsGradientsAndThoseOfGradients) {
  for (const bool biased : {false, true}) {
    Tensor x = random(6 * 20, 128).view({6, 20, 128}).clone().requires_grad_(true),
           weight = random(96, 128).clone().requires_grad_(true);
    Tensor bias = random(1, 96)[0].clone().requires_grad_(true);
    const Tensor upstream = random(120, 96).view({6, 20, 96});
    std::vector<Tensor> inputs{x, weight}, exact_inputs;
    if (biased) inputs.push_back(bias);
    for (const Tensor& input : inputs) exact_inputs.push_back(wide(input.detach()).requires_grad_(true));
    const auto optional = [&](const std::vector<Tensor>& from) {
      return biased ? std::optional<Tensor>(from[2]) : std::nullopt;
    };
    const Tensor y = kernels::linear(x, weight, optional(inputs));
    ASSERT_NE(y.grad_fn()->name().find("LinearByProducts"), std::string::npos);
    const Tensor exact = at::linear(exact_inputs[0], exact_inputs[1], optional(exact_inputs));
    oumi::testing::expect_close(y.detach(), exact.detach(), {1e-2, 1e-1}, "y");
    for (const bool twice : {false, true}) {
      const auto gradients = torch::autograd::grad({y}, inputs, {upstream}, /*retain_graph=*/true, /*create_graph=*/twice);
      const auto wanted =
          torch::autograd::grad({exact}, exact_inputs, {wide(upstream)}, /*retain_graph=*/true, /*create_graph=*/twice);
      for (std::size_t i = 0; i < gradients.size(); ++i)
        oumi::testing::expect_close(gradients[i].detach(), wanted[i].detach(), {1e-2, 2e-1}, cat("gradient ", i));
      if (!twice) continue;
      const auto second = torch::autograd::grad({gradients[0].to(at::kFloat).square().sum()}, {weight});
      const auto second_wanted = torch::autograd::grad({wanted[0].square().sum()}, {exact_inputs[1]});
      oumi::testing::expect_close(second[0], second_wanted[0], {2e-2, 3}, "second");
    }
  }
}

TEST_F(TileProductTest, WhatDoesNotFitIsLibTorchsError) {
  EXPECT_THROW(product(random(64, 256), random(255, 64)), c10::Error);
  EXPECT_THROW(product(random(64, 256), random(256, 64), random(1, 63)[0]), c10::Error);
  EXPECT_THROW(kernels::linear(random(64, 256), random(128, 512), {}), c10::Error);
  EXPECT_THROW(kernels::linear(random(64, 256), random(128, 256), random(1, 127)[0]), c10::Error);
}

TEST_F(TileProductTest, LinearKeepsItsInputOnlyForTheWeightsGradient) {
  const auto handles_on_input = [](bool frozen) {
    Tensor x = random(64, 256).clone().requires_grad_(true), weight = random(128, 256).clone().requires_grad_(!frozen);
    const Tensor y = kernels::linear(x, weight, {});
    const std::size_t handles = x.use_count();
    y.backward(at::ones_like(y));
    oumi::testing::expect_close(x.grad(), wide(weight.detach()).sum(0).expand({64, 256}), {1e-2, 1e-1}, "x");
    EXPECT_EQ(weight.grad().defined(), !frozen);
    return handles;
  };
  EXPECT_EQ(handles_on_input(true) + 1, handles_on_input(false));
}

}  // namespace
}  // namespace oumi::kernels
