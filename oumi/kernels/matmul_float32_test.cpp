#include "oumi/kernels/cpu/matmul_float32.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>

#include <limits>
#include <utility>

#include "oumi/base/strings.h"
#include "oumi/kernels/cpu/matrix_product.h"
#include "oumi/kernels/cpu/simd.h"
#include "oumi/kernels/linear.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

class BlockProductTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(12);
    if (!cpu::has_blocks()) GTEST_SKIP() << "this processor multiplies float32 another way";
  }

  static Tensor random(std::int64_t rows, std::int64_t columns, bool transposed = false, at::ScalarType type = at::kFloat) {
    const Tensor made = at::randn(transposed ? at::IntArrayRef{columns, rows} : at::IntArrayRef{rows, columns}).to(type);
    return transposed ? made.t() : made;
  }

  static Tensor product(const Tensor& a, const Tensor& b) { return cpu::product(a, b, at::kFloat); }

  static Tensor wide(const Tensor& tensor) { return tensor.to(at::kDouble); }

  // What rounding to the result's type loses, and what float32 sums lose where terms cancel.
  static void expect_near(const Tensor& result, const Tensor& exact, const Tensor& magnitude, const std::string& what) {
    const double rounding = result.scalar_type() == at::kBFloat16 ? 1.0 / 256 : 1.2e-7;
    const Tensor bound = exact.abs() * rounding + magnitude * 4e-6;
    EXPECT_TRUE((wide(result) - exact).abs().le(bound).all().item<bool>()) << what;
  }
};

TEST_F(BlockProductTest, IsExactUpToItsRoundingAtOddSizesInEveryLayoutAndType) {
  struct Size {
    std::int64_t m, n, k;
  };
  // Tails of every kind, several steps and panels of the inner size, several panels of columns.
  for (const Size size : {Size{64, 64, 256}, Size{2048, 192, 64}, Size{33, 16, 4098}, Size{65, 17, 1000}, Size{127, 1001, 67},
                          Size{32, 769, 2050}, Size{1000, 385, 2112}, Size{40, 33000, 33}, Size{101, 600, 2047}}) {
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        for (const bool mixed : {false, true}) {
          const Tensor a = random(size.m, size.k, a_transposed, mixed ? at::kBFloat16 : at::kFloat),
                       b = random(size.k, size.n, b_transposed), bias = random(1, size.n)[0];
          const std::string what = cat(size.m, " x ", size.n, " x ", size.k, a_transposed ? " a^T" : "",
                                       b_transposed ? " b^T" : "", mixed ? " mixed" : "");
          ASSERT_TRUE(cpu::goes_by_blocks(a, b)) << what;
          const Tensor exact = at::mm(wide(a), wide(b)), magnitude = at::mm(wide(a).abs(), wide(b).abs());
          expect_near(product(a, b), exact, magnitude, what);
          const Tensor biased = cpu::product(a, b, mixed ? at::kBFloat16 : at::kFloat, bias);
          EXPECT_EQ(biased.scalar_type(), mixed ? at::kBFloat16 : at::kFloat);
          expect_near(biased, exact + wide(bias), magnitude + wide(bias).abs(), what + " + bias");
          const Tensor sums = at::full({size.m, size.n}, 3.0f);
          cpu::add_product(sums, a, b);
          expect_near(sums, exact + 3, magnitude + 3, what + " added");
        }
      }
    }
  }
}

TEST_F(BlockProductTest, OfBFloat16IsThatOfItsValues) {
  for (const bool a_transposed : {false, true}) {
    const Tensor a = random(150, 700, a_transposed, at::kBFloat16), b = random(700, 90, !a_transposed, at::kBFloat16);
    const Tensor result = product(a, b);
    EXPECT_TRUE(result.equal(product(a.to(at::kFloat), b.to(at::kFloat))));
    const Tensor rounded = at::empty({150, 90}, a.options());
    cpu::multiply_by_blocks(cpu::ProductTerm{a, b}, {}, rounded, /*add=*/false);
    EXPECT_TRUE(rounded.equal(result.to(at::kBFloat16)));
  }
}

TEST_F(BlockProductTest, ReadsAndWritesPartsOfLargerMatricesAlone) {
  const Tensor whole = random(83, 300), a = whole.slice(1, 10, 203), b = random(400, 97).slice(0, 5, 198);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const Tensor target = at::full({90, 200}, 7.0f).to(type), out = target.slice(0, 3, 86).slice(1, 50, 147);
    ASSERT_TRUE(cpu::goes_by_blocks(a, b));
    cpu::product_into(out, a, b);
    EXPECT_TRUE(out.equal(product(a.contiguous(), b.contiguous()).to(type)));
    EXPECT_TRUE(target.slice(1, 0, 50).eq(7).all().item<bool>());
    EXPECT_TRUE(target.slice(1, 147).eq(7).all().item<bool>());
    EXPECT_TRUE(target.slice(0, 0, 3).eq(7).all().item<bool>());
    EXPECT_TRUE(target.slice(0, 86).eq(7).all().item<bool>());
  }
}

TEST_F(BlockProductTest, AnElementDependsNeitherOnItsNeighboursNorOnThreads) {
  const Tensor a = random(700, 2176, /*transposed=*/true), b = random(2176, 800);
  const Tensor result = product(a, b);
  EXPECT_TRUE(result.slice(0, 61, 128).slice(1, 323, 448).equal(product(a.slice(0, 61, 128), b.slice(1, 323, 448))));
  const int threads = at::get_num_threads();
  for (const int other : {1, 3, 7}) {
    at::set_num_threads(other);
    EXPECT_TRUE(result.equal(product(a, b))) << other;
  }
  at::set_num_threads(threads);
}

// Threads go on to the next panels while others are at these: with few rows, panels follow each other quickly.
TEST_F(BlockProductTest, RepeatsBitForBitWhateverThreadsAreAt) {
  const int threads = at::get_num_threads();
  for (const auto& [a, b] : {std::pair(random(41, 7000), random(7000, 48)), std::pair(random(37, 1300), random(1300, 2500))}) {
    at::set_num_threads(1);
    const Tensor alone = product(a, b);
    at::set_num_threads(7);
    for (int i = 0; i < 60; ++i) ASSERT_TRUE(alone.equal(product(a, b))) << i;
  }
  at::set_num_threads(threads);
}

TEST_F(BlockProductTest, InfinitiesAndNotANumbersGoWhereTheyBelong) {
  const Tensor a = random(65, 256), b = random(256, 65);
  a[3][5] = std::numeric_limits<float>::infinity();
  a[64][1] = std::numeric_limits<float>::quiet_NaN();
  const Tensor result = product(a, b), finite = result.isfinite().all(1);
  EXPECT_TRUE(result[64].isnan().all().item<bool>());
  EXPECT_TRUE(result[3].isinf().all().item<bool>());
  EXPECT_EQ(finite.sum().item<std::int64_t>(), 63);
}

TEST_F(BlockProductTest, LinearHasItsGradientsAndThoseOfGradients) {
  for (const bool biased : {false, true}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      if (type == at::kBFloat16 && cpu::has_bfloat16_products()) continue;
      const oumi::testing::Tolerance near =
          type == at::kFloat ? oumi::testing::Tolerance{1e-5, 1e-4} : oumi::testing::Tolerance{1e-2, 1e-1};
      const auto leaf = [&](const Tensor& tensor) { return tensor.to(type).clone().requires_grad_(true); };
      std::vector<Tensor> inputs{leaf(random(6 * 20, 128).view({6, 20, 128})), leaf(random(96, 128))}, exact_inputs;
      if (biased) inputs.push_back(leaf(random(1, 96)[0]));
      const Tensor upstream = random(120, 96).view({6, 20, 96}).to(type);
      for (const Tensor& input : inputs) exact_inputs.push_back(wide(input.detach()).requires_grad_(true));
      const auto optional = [&](const std::vector<Tensor>& from) {
        return biased ? std::optional<Tensor>(from[2]) : std::nullopt;
      };
      const Tensor y = kernels::linear(inputs[0], inputs[1], optional(inputs));
      ASSERT_NE(y.grad_fn()->name().find("LinearByProducts"), std::string::npos);
      EXPECT_EQ(y.scalar_type(), type);
      const Tensor exact = at::linear(exact_inputs[0], exact_inputs[1], optional(exact_inputs));
      oumi::testing::expect_close(y.detach(), exact.detach(), near, "y");
      for (const bool twice : {false, true}) {
        const auto gradients = torch::autograd::grad({y}, inputs, {upstream}, /*retain_graph=*/true, /*create_graph=*/twice);
        const auto wanted =
            torch::autograd::grad({exact}, exact_inputs, {wide(upstream)}, /*retain_graph=*/true, /*create_graph=*/twice);
        for (std::size_t i = 0; i < gradients.size(); ++i) {
          EXPECT_EQ(gradients[i].scalar_type(), type);
          oumi::testing::expect_close(gradients[i].detach(), wanted[i].detach(), near, cat("gradient ", i));
        }
        if (!twice || type != at::kFloat) continue;
        const auto second = torch::autograd::grad({gradients[0].square().sum()}, {inputs[1]});
        const auto second_wanted = torch::autograd::grad({wanted[0].square().sum()}, {exact_inputs[1]});
        oumi::testing::expect_close(second[0], second_wanted[0], {1e-5, 1e-2}, "second");
      }
    }
  }
}

TEST_F(BlockProductTest, WhatDoesNotFitIsLibTorchsError) {
  EXPECT_THROW(product(random(64, 256), random(255, 64)), c10::Error);
  EXPECT_THROW(cpu::product(random(64, 256), random(256, 64), at::kFloat, random(1, 63)[0]), c10::Error);
  EXPECT_THROW(kernels::linear(random(64, 256), random(128, 512), {}), c10::Error);
  EXPECT_THROW(kernels::linear(random(64, 256), random(128, 256), random(1, 127)[0]), c10::Error);
  EXPECT_THROW(kernels::linear(random(64, 256), random(128, 256).to(at::kDouble), {}), c10::Error);
}

TEST_F(BlockProductTest, LinearKeepsItsInputOnlyForTheWeightsGradient) {
  const auto handles_on_input = [](bool frozen) {
    Tensor x = random(64, 256).clone().requires_grad_(true), weight = random(128, 256).clone().requires_grad_(!frozen);
    const Tensor y = kernels::linear(x, weight, {});
    const std::size_t handles = x.use_count();
    y.backward(at::ones_like(y));
    oumi::testing::expect_close(x.grad(), wide(weight.detach()).sum(0).expand({64, 256}), {1e-5, 1e-4}, "x");
    EXPECT_EQ(weight.grad().defined(), !frozen);
    return handles;
  };
  EXPECT_EQ(handles_on_input(true) + 1, handles_on_input(false));
}

}  // namespace
}  // namespace oumi::kernels
