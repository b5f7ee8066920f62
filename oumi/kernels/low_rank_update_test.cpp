#include "oumi/kernels/low_rank_update.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <vector>

#include "oumi/base/error.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

using oumi::testing::gradcheck;
using ::testing::HasSubstr;

struct Case {
  at::ScalarType result, x, factors;
  std::vector<std::int64_t> rows;
};

Tensor leaf(std::vector<std::int64_t> shape, at::ScalarType type) { return at::randn(shape, type).set_requires_grad(true); }

TEST(LowRankUpdate, MatchesTheFormula) {
  at::manual_seed(5);
  constexpr std::int64_t kIn = 37, kOut = 53, kRank = 5;
  constexpr double kScaling = 1.7;
  for (const Case& c :
       {Case{at::kBFloat16, at::kBFloat16, at::kFloat, {3, 11}}, Case{at::kBFloat16, at::kFloat, at::kFloat, {7}},
        Case{at::kFloat, at::kFloat, at::kFloat, {2, 3, 4}}, Case{at::kBFloat16, at::kBFloat16, at::kBFloat16, {9}},
        Case{at::kDouble, at::kDouble, at::kDouble, {6}}, Case{at::kBFloat16, at::kBFloat16, at::kFloat, {0}}}) {
    const auto shape = [&](std::int64_t width) {
      std::vector<std::int64_t> all = c.rows;
      all.push_back(width);
      return all;
    };
    const std::vector<Tensor> got{leaf(shape(kOut), c.result), leaf(shape(kIn), c.x), leaf({kRank, kIn}, c.factors),
                                  leaf({kOut, kRank}, c.factors)};
    std::vector<Tensor> right;
    for (const Tensor& tensor : got) right.push_back(tensor.detach().to(at::kDouble).set_requires_grad(true));
    const Tensor out = low_rank_update(got[0], got[1], got[2], got[3], kScaling);
    const Tensor exact = right[0] + kScaling * at::matmul(at::matmul(right[1], right[2].t()), right[3].t());
    EXPECT_EQ(out.scalar_type(), c.result);
    const Tensor weights = at::randn(exact.sizes(), at::kDouble).to(c.result).to(at::kDouble);
    (out.to(at::kDouble) * weights).sum().backward();
    (exact * weights).sum().backward();
    // Each is rounded to its own dtype once, and sums of up to 53 terms in the factors' dtype come before.
    const double own = c.factors == at::kBFloat16 ? 3e-2 : c.factors == at::kFloat ? 1e-5 : 1e-12;
    const auto close = [&](const Tensor& a, const Tensor& b, at::ScalarType type) {
      EXPECT_EQ(a.sizes(), b.sizes());
      if (b.numel() == 0) return;
      const double rounding = type == at::kBFloat16 ? 1.0 / 256 : 0;
      const double bound = (rounding + own) * b.abs().max().item<double>();
      EXPECT_LE((a.to(at::kDouble) - b).abs().max().item<double>(), bound) << c.result << " " << c.x << " " << c.factors;
    };
    close(out, exact, c.result);
    for (std::size_t i = 0; i < got.size(); ++i) close(got[i].grad(), right[i].grad(), got[i].scalar_type());
  }
}

TEST(LowRankUpdate, GradientsMatchCentralDifferences) {
  at::manual_seed(6);
  gradcheck([](const auto& in) { return std::vector<Tensor>{low_rank_update(in[0], in[1], in[2], in[3], 0.5)}; },
            {leaf({4, 6}, at::kDouble), leaf({4, 5}, at::kDouble), leaf({2, 5}, at::kDouble), leaf({6, 2}, at::kDouble)});
}

// Of the fused form, which keeps x a^T as a value.
TEST(LowRankUpdate, HasGradientsOfGradients) {
  at::manual_seed(8);
  const std::vector<Tensor> narrow{leaf({4, 6}, at::kBFloat16), leaf({4, 5}, at::kBFloat16), leaf({2, 5}, at::kFloat),
                                   leaf({6, 2}, at::kFloat)};
  std::vector<Tensor> exact;
  for (const Tensor& tensor : narrow) exact.push_back(tensor.detach().to(at::kDouble).set_requires_grad(true));
  const auto second = [](const std::vector<Tensor>& in) {
    const Tensor out = low_rank_update(in[0], in[1], in[2], in[3], 0.5);
    const auto first = torch::autograd::grad({out.sum()}, {in[2], in[3]}, {}, /*retain_graph=*/true, /*create_graph=*/true);
    return torch::autograd::grad({first[0].square().sum() + first[1].square().sum()}, {in[1], in[2], in[3]});
  };
  const auto got = second(narrow), wanted = second(exact);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double rounding = got[i].scalar_type() == at::kBFloat16 ? 1e-2 : 1e-5;
    oumi::testing::expect_close(got[i], wanted[i], {rounding, rounding * wanted[i].abs().max().item<double>()}, "second");
  }
}

// As PEFT does under autocast: the factors' products are bfloat16.
TEST(LowRankUpdate, AutocastRoundsTheFactors) {
  at::manual_seed(7);
  const Tensor result = at::randn({4, 6}, at::kBFloat16), x = at::randn({4, 5}), a = at::randn({2, 5}), b = at::randn({6, 2});
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Tensor got = low_rank_update(result, x, a, b, 2);
  const Tensor right = (result + at::linear(at::linear(x, a) * 2, b)).to(at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_TRUE(at::equal(got, right));
}

TEST(LowRankUpdate, WrongShapesAreNamed) {
  try {
    low_rank_update(at::randn({4, 6}), at::randn({4, 5}), at::randn({2, 4}), at::randn({6, 2}), 1);
    FAIL() << "expected an error";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("[4, 6], [4, 5], [2, 4] and [6, 2]"));
  }
}

}  // namespace
}  // namespace oumi::kernels
