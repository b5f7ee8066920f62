#include "oumi/kernels/linears_with_updates.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/kernels/cpu/matmul_float32.h"
#include "oumi/kernels/linear.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

using oumi::testing::expect_close;
using oumi::testing::Tolerance;

Tensor wide(const Tensor& tensor) { return tensor.detach().to(at::kDouble).requires_grad_(tensor.requires_grad()); }

struct Adapted {
  Tensor x, adapted;
  std::vector<Tensor> weights, biases;
  std::vector<LowRankFactors> updates;

  std::vector<Tensor> run() const { return linears_with_updates(x, adapted, weights, biases, updates); }

  // By its definition, of the tensors as they are.
  std::vector<Tensor> formula() const {
    std::vector<Tensor> outs;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const Tensor base = x.matmul(weights[i].t());
      const Tensor update = adapted.matmul(updates[i].a.t()).matmul(updates[i].b.t()) * updates[i].scaling;
      outs.push_back(biases[i].defined() ? base + biases[i] + update : base + update);
    }
    return outs;
  }

  std::vector<Tensor> trained() const {
    std::vector<Tensor> list{x};
    if (!adapted.is_same(x)) list.push_back(adapted);
    for (const LowRankFactors& update : updates) list.insert(list.end(), {update.a, update.b});
    return list;
  }

  Adapted in_float64() const {
    Adapted made{wide(x), {}, {}, {}, {}};
    made.adapted = adapted.is_same(x) ? made.x : wide(adapted);
    for (const Tensor& weight : weights) made.weights.push_back(wide(weight));
    for (const Tensor& bias : biases) made.biases.push_back(bias.defined() ? wide(bias) : Tensor());
    for (const LowRankFactors& update : updates) made.updates.push_back({wide(update.a), wide(update.b), update.scaling});
    return made;
  }
};

struct Size {
  std::int64_t out, rank;
};

// Values for sums of about one; a bias in the second layer.
Adapted adapted_layers(at::ScalarType type, std::int64_t tokens, std::int64_t in, const std::vector<Size>& sizes,
                       bool with_dropout = false) {
  Adapted made{at::randn({2, tokens, in}).to(type).requires_grad_(true), {}, {}, {}, {}};
  const at::ScalarType factors = type == at::kDouble ? at::kDouble : at::kFloat;
  made.adapted = with_dropout ? at::randn({2, tokens, in}, factors).requires_grad_(true) : made.x;
  const double scale = 1 / std::sqrt(static_cast<double>(in));
  for (const auto& [out, rank] : sizes) {
    made.biases.push_back(made.weights.size() == 1 ? at::randn({out}).to(type) : Tensor());
    made.weights.push_back(at::randn({out, in}).mul(scale).to(type));
    made.updates.push_back({at::randn({rank, in}, factors).mul(scale).requires_grad_(true),
                            at::randn({out, rank}, factors).mul(0.5).requires_grad_(true),
                            0.7 + 0.1 * static_cast<double>(made.updates.size())});
  }
  return made;
}

bool is_one_operation(const Tensor& out) { return out.grad_fn()->name().find("LinearsWithUpdates") != std::string::npos; }

bool has_one_operation(at::ScalarType type) { return cpu::has_blocks() && type != at::kDouble; }

std::vector<Tensor> upstream_of(const std::vector<Tensor>& outs) {
  std::vector<Tensor> upstream;
  for (const Tensor& out : outs) upstream.push_back(at::randn(out.sizes()).to(out.scalar_type()));
  return upstream;
}

Tolerance near(at::ScalarType type, double largest) {
  const double unit = type == at::kFloat ? 2e-6 : type == at::kBFloat16 ? 1.0 / 128 : 1e-14;
  return {unit, unit * largest};
}

TEST(LinearsWithUpdates, MatchTheFormulaInFloat64) {
  at::manual_seed(31);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    // Ranks of less and more than a strip and a thin product, different ones, several panels of inner values and of columns,
    // one layer alone.
    for (const auto& [in, sizes] : {std::pair{std::int64_t{321}, std::vector<Size>{{97, 16}, {33, 1}, {35, 16}}},
                                    {576, {{576, 16}, {192, 16}, {192, 16}}},
                                    {1500, {{700, 40}, {701, 40}}},
                                    {64, {{4100, 8}}},
                                    {1024, {{64, 3}}}}) {
      for (const bool with_dropout : {false, true}) {
        const Adapted made = adapted_layers(type, 67, in, sizes, with_dropout), exact = made.in_float64();
        const auto outs = made.run(), wanted = exact.formula();
        const std::string name = cat(c10::toString(type), " in ", in, with_dropout ? " dropout" : "");
        ASSERT_EQ(is_one_operation(outs[0]), has_one_operation(type)) << name;
        const auto upstream = upstream_of(outs);
        std::vector<Tensor> exact_upstream;
        for (const Tensor& tensor : upstream) exact_upstream.push_back(tensor.to(at::kDouble));
        const auto gradients = torch::autograd::grad(outs, made.trained(), upstream),
                   wanted_gradients = torch::autograd::grad(wanted, exact.trained(), exact_upstream);
        // The base's result is rounded before the update is added where they are not one operation, and gradients once a layer.
        for (std::size_t i = 0; i < outs.size(); ++i) {
          EXPECT_EQ(outs[i].scalar_type(), type);
          expect_close(outs[i], wanted[i], near(type, 2), cat(name, " out ", i));
        }
        const std::vector<Tensor> inputs = made.trained();
        for (std::size_t i = 0; i < inputs.size(); ++i) {
          EXPECT_EQ(gradients[i].scalar_type(), inputs[i].scalar_type());
          expect_close(gradients[i], wanted_gradients[i],
                       near(inputs[i].scalar_type(), wanted_gradients[i].abs().max().item<double>()),
                       cat(name, " gradient ", i));
        }
      }
    }
  }
}

TEST(LinearsWithUpdates, HaveGradientsOfGradients) {
  at::manual_seed(32);
  for (const bool with_dropout : {false, true}) {
    const Adapted made = adapted_layers(at::kFloat, 40, 128, {{96, 8}, {64, 16}}, with_dropout), exact = made.in_float64();
    const auto second = [](const Adapted& layers, const std::vector<Tensor>& outs) {
      const std::vector<Tensor> upstream{at::ones_like(outs[0]), at::ones_like(outs[1])};
      const auto first = torch::autograd::grad(outs, layers.trained(), upstream, /*retain_graph=*/true, /*create_graph=*/true);
      Tensor sum = first[0].square().sum();
      for (std::size_t i = 1; i < first.size(); ++i) sum = sum + first[i].square().sum() * 0.1;
      std::vector<Tensor> inputs = layers.trained();
      inputs[0] = layers.adapted;  // x itself is in no gradient
      return torch::autograd::grad({sum}, inputs);
    };
    const auto got = second(made, made.run()), wanted = second(exact, exact.formula());
    for (std::size_t i = 0; i < got.size(); ++i)
      expect_close(got[i], wanted[i], {1e-4, 1e-5 * wanted[i].abs().max().item<double>()}, cat("second ", i));
  }
}

TEST(LinearsWithUpdates, RepeatBitForBitAtAnyNumberOfThreads) {
  at::manual_seed(33);
  const Adapted made = adapted_layers(at::kFloat, 300, 576, {{576, 16}, {192, 16}, {192, 16}});
  const std::vector<Tensor> upstream = upstream_of(made.run());
  const auto run = [&] {
    std::vector<Tensor> outs = made.run(), results = torch::autograd::grad(outs, made.trained(), upstream);
    results.insert(results.end(), outs.begin(), outs.end());
    return results;
  };
  const std::vector<Tensor> first = run();
  const int threads = at::get_num_threads();
  for (const int other : {1, 3, 7}) {
    at::set_num_threads(other);
    const std::vector<Tensor> again = run();
    for (std::size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(first[i].equal(again[i])) << other << " threads, " << i;
  }
  at::set_num_threads(threads);
}

TEST(LinearsWithUpdates, TakeStridedInputsUnusedOutputsAndExpandedGradients) {
  at::manual_seed(34);
  Adapted made = adapted_layers(at::kFloat, 50, 128, {{96, 8}, {64, 8}});
  made.x = made.adapted = at::randn({50, 2, 256}).transpose(0, 1).narrow(2, 64, 128).detach().requires_grad_(true);
  for (LowRankFactors& update : made.updates) {
    update.a = update.a.detach().t().contiguous().t().requires_grad_(true);
    update.b = update.b.detach().t().contiguous().t().requires_grad_(true);
  }
  const Adapted exact = made.in_float64();
  const auto outs = made.run(), wanted = exact.formula();
  std::vector<Tensor> used{made.x, made.updates[0].a, made.updates[0].b},
      exact_used{exact.x, exact.updates[0].a, exact.updates[0].b};
  // sum()'s gradient is one value with strides of zero.
  const auto gradients = torch::autograd::grad({outs[0].sum()}, used),
             wanted_gradients = torch::autograd::grad({wanted[0].sum()}, exact_used);
  for (std::size_t i = 0; i < used.size(); ++i) expect_close(gradients[i], wanted_gradients[i], {1e-5, 1e-4}, cat(i));
}

TEST(LinearsWithUpdates, FrozenFactorsAndInputsGetNoGradient) {
  at::manual_seed(35);
  Adapted made = adapted_layers(at::kFloat, 50, 128, {{96, 8}, {64, 8}});
  made.x = made.adapted = made.x.detach();
  made.updates[0].a = made.updates[0].a.detach();
  made.updates[1].b = made.updates[1].b.detach();
  const auto outs = made.run();
  (outs[0].sum() + outs[1].sum()).backward();
  EXPECT_FALSE(made.x.grad().defined());
  EXPECT_FALSE(made.updates[0].a.grad().defined());
  EXPECT_FALSE(made.updates[1].b.grad().defined());
  const Tensor x = made.x.view({100, 128});
  const Tensor grad_b = x.matmul(made.updates[0].a.t()).sum(0).expand({96, 8}) * made.updates[0].scaling;
  const Tensor grad_a = made.updates[1].b.sum(0).unsqueeze(1) * x.sum(0).unsqueeze(0) * made.updates[1].scaling;
  expect_close(made.updates[0].b.grad(), grad_b, {1e-4, 1e-4}, "b");
  expect_close(made.updates[1].a.grad(), grad_a, {1e-4, 1e-4}, "a");
}

// Trained weights, few rows, autocast: as linear() and low_rank_update() do, bit for bit.
TEST(LinearsWithUpdates, GoOneByOneElsewhere) {
  at::manual_seed(36);
  const auto expect_as_single_calls = [](const Adapted& made, const char* what) {
    const auto outs = made.run();
    for (std::size_t i = 0; i < outs.size(); ++i) {
      const std::optional<Tensor> bias = made.biases[i].defined() ? std::optional<Tensor>(made.biases[i]) : std::nullopt;
      const LowRankFactors& update = made.updates[i];
      EXPECT_FALSE(is_one_operation(outs[i])) << what;
      EXPECT_TRUE(outs[i].equal(
          low_rank_update(kernels::linear(made.x, made.weights[i], bias), made.adapted, update.a, update.b, update.scaling)))
          << what << " " << i;
    }
  };
  Adapted made = adapted_layers(at::kFloat, 50, 128, {{96, 8}, {64, 8}});
  for (const Tensor& weight : made.weights) weight.requires_grad_(true);
  expect_as_single_calls(made, "trained weights");
  expect_as_single_calls(adapted_layers(at::kFloat, 2, 128, {{96, 8}, {64, 8}}), "few rows");
  at::autocast::set_autocast_enabled(at::kCPU, true);
  expect_as_single_calls(adapted_layers(at::kFloat, 50, 128, {{96, 8}, {64, 8}}), "autocast");
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(adapted_layers(at::kFloat, 0, 128, {{96, 8}}).run()[0].sizes(), at::IntArrayRef({2, 0, 96}));
}

TEST(LinearsWithUpdates, WrongShapesAreNamed) {
  Adapted made = adapted_layers(at::kFloat, 50, 128, {{96, 8}});
  made.updates[0].a = at::randn({8, 127});
  try {
    made.run();
    FAIL() << "expected an error";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("[2, 50, 128], [8, 127] and [96, 8]"));
  }
}

// What they are made of: sums of several products, with a left operand of its own for each right one in the second.
TEST(ProductTerms, AreSummedAndRoundedOnce) {
  if (!cpu::has_blocks()) GTEST_SKIP() << "this processor multiplies float32 another way";
  at::manual_seed(37);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const std::int64_t inner : {64, 1000, 1024, 1030, 2500}) {
      const Tensor x = at::randn({101, inner}).to(type), left = at::randn({101, 70}), bias = at::randn({40});
      const std::vector<Tensor> weights{at::randn({inner, 600}).to(type), at::randn({inner, 40}).to(type)};
      const std::vector<Tensor> lefts{left.narrow(1, 0, 35), left.narrow(1, 35, 35)},
          rights{at::randn({35, 600}), at::randn({35, 40})};
      const std::vector<Tensor> outs{at::empty({101, 600}, type), at::empty({101, 40}, type)};
      cpu::multiply_by_blocks({cpu::ProductTerm{x, weights}, cpu::ProductTerm{lefts, rights}}, {Tensor(), bias}, outs, false);
      for (std::size_t i = 0; i < 2; ++i) {
        const auto magnitude = [&](auto&& of) {
          const Tensor sum = at::mm(of(x), of(weights[i])) + at::mm(of(lefts[i]), of(rights[i]));
          return i == 1 ? sum + of(bias) : sum;
        };
        const Tensor exact = magnitude([](const Tensor& tensor) { return tensor.to(at::kDouble); });
        const Tensor bound = magnitude([](const Tensor& tensor) { return tensor.to(at::kDouble).abs(); }) * 4e-6 +
                             exact.abs() * (type == at::kFloat ? 1.2e-7 : 1.0 / 256);
        EXPECT_TRUE((outs[i].to(at::kDouble) - exact).abs().le(bound).all().item<bool>()) << type << " " << inner << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace oumi::kernels
