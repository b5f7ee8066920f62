// Several layers with one input: as many calls of linear, by one operation where products go by blocks.
#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>

#include "oumi/base/strings.h"
#include "oumi/kernels/cpu/matmul_float32.h"
#include "oumi/kernels/cpu/matrix_product.h"
#include "oumi/kernels/linear.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

Tensor wide(const Tensor& tensor) { return tensor.detach().to(at::kDouble); }

struct Layers {
  Tensor x;
  std::vector<Tensor> weights, biases;

  std::vector<Tensor> trained() const {
    std::vector<Tensor> list;
    for (const auto* tensors : {&weights, &biases}) {
      for (const Tensor& tensor : *tensors) {
        if (tensor.defined() && tensor.requires_grad()) list.push_back(tensor);
      }
    }
    if (x.requires_grad()) list.push_back(x);
    return list;
  }
};

// Odd sizes, more panels of columns than one, and a bias in one layer.
Layers layers(at::ScalarType type, std::int64_t tokens, const std::vector<std::int64_t>& sizes, std::int64_t in = 321) {
  Layers made{at::randn({2, tokens, in}).to(type).requires_grad_(true), {}, {}};
  for (const std::int64_t out : sizes) {
    made.weights.push_back(at::randn({out, in}).mul(0.1).to(type).requires_grad_(true));
    made.biases.push_back(made.biases.size() == 1 ? at::randn({out}).to(type).requires_grad_(true) : Tensor());
  }
  return made;
}

std::vector<Tensor> one_by_one(const Layers& layers) {
  std::vector<Tensor> outs;
  for (std::size_t i = 0; i < layers.weights.size(); ++i) {
    const Tensor& bias = layers.biases[i];
    outs.push_back(kernels::linear(layers.x, layers.weights[i], bias.defined() ? std::optional<Tensor>(bias) : std::nullopt));
  }
  return outs;
}

std::vector<Tensor> upstream_of(const std::vector<Tensor>& outs) {
  std::vector<Tensor> upstream;
  for (const Tensor& out : outs) upstream.push_back(at::randn(out.sizes()).to(out.scalar_type()));
  return upstream;
}

TEST(Linears, AreAsManyCallsOfLinear) {
  at::manual_seed(21);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const auto& sizes : {std::vector<std::int64_t>{97, 33, 33}, {1001, 1003}, {8000, 16}, {64}}) {
      const Layers made = layers(type, 71, sizes);
      const auto outs = linears(made.x, made.weights, made.biases), wanted = one_by_one(made);
      ASSERT_EQ(outs.size(), sizes.size());
      const auto upstream = upstream_of(outs);
      const auto gradients = torch::autograd::grad(outs, made.trained(), upstream),
                 wanted_gradients = torch::autograd::grad(wanted, made.trained(), upstream);
      for (std::size_t i = 0; i < outs.size(); ++i) EXPECT_TRUE(outs[i].equal(wanted[i])) << type << " " << i;
      // All but x's, which is a sum.
      for (std::size_t i = 0; i + 1 < gradients.size(); ++i)
        EXPECT_TRUE(gradients[i].equal(wanted_gradients[i])) << type << " gradient " << i;
      Tensor exact = at::zeros_like(wide(made.x));
      for (std::size_t i = 0; i < outs.size(); ++i) exact += wide(upstream[i]).matmul(wide(made.weights[i]));
      const double unit = type == at::kFloat ? 1e-6 : type == at::kBFloat16 ? 1.0 / 256 : 1e-14;
      // Rounded once by blocks, else once a layer.
      const bool once = cpu::has_blocks() && type != at::kDouble;
      oumi::testing::expect_close(gradients.back(), exact, {once ? unit : 4 * unit, 30 * unit}, cat("x of ", sizes.size()));
    }
  }
}

TEST(Linears, GoByOneOperationWhereProductsGoByBlocks) {
  if (!cpu::has_blocks()) GTEST_SKIP() << "this processor multiplies float32 another way";
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const Layers made = layers(type, 64, {128, 64});
    const auto outs = linears(made.x, made.weights, made.biases);
    EXPECT_EQ(outs[0].grad_fn(), outs[1].grad_fn());
  }
  // One layer alone is too small.
  const Layers small = layers(at::kFloat, 64, {128, 8});
  const auto outs = linears(small.x, small.weights, small.biases);
  EXPECT_NE(outs[0].grad_fn(), outs[1].grad_fn());
}

TEST(Linears, GiveGradientsToWhatWantsThemAlone) {
  at::manual_seed(22);
  for (const bool x_trained : {false, true}) {
    Layers made = layers(at::kFloat, 64, {96, 48, 80});
    made.weights[0].requires_grad_(false);
    made.x.requires_grad_(x_trained);
    const auto outs = linears(made.x, made.weights, made.biases), wanted = one_by_one(made);
    // Without the second output; the third one's gradient comes transposed.
    const Tensor first = at::randn(outs[0].sizes()), third = at::randn({80, 64, 2}).permute({2, 1, 0});
    std::vector<Tensor> used{outs[2]}, used_wanted{wanted[2]}, upstream{third};
    if (x_trained) {
      used.push_back(outs[0]);
      used_wanted.push_back(wanted[0]);
      upstream.push_back(first);
    }
    std::vector<Tensor> inputs{made.weights[2]};
    if (x_trained) inputs.push_back(made.x);
    const auto gradients = torch::autograd::grad(used, inputs, upstream),
               wanted_gradients = torch::autograd::grad(used_wanted, inputs, upstream);
    for (std::size_t i = 0; i < gradients.size(); ++i)
      oumi::testing::expect_close(gradients[i], wanted_gradients[i].to(at::kDouble), {1e-5, 1e-4}, cat("gradient ", i));
  }
}

TEST(Linears, HaveGradientsOfGradients) {
  at::manual_seed(23);
  const Layers made = layers(at::kFloat, 64, {64, 48}, 64);
  Layers exact{wide(made.x).requires_grad_(true), {}, {}};
  for (std::size_t i = 0; i < 2; ++i) {
    exact.weights.push_back(wide(made.weights[i]).requires_grad_(true));
    exact.biases.push_back(made.biases[i].defined() ? wide(made.biases[i]).requires_grad_(true) : Tensor());
  }
  const auto second_of = [](const Layers& from, const std::vector<Tensor>& outs) {
    const auto first = torch::autograd::grad({outs[0].square().sum() + outs[1].square().sum()}, {from.x, from.weights[1]}, {},
                                             /*retain_graph=*/true, /*create_graph=*/true);
    return torch::autograd::grad({first[0].square().sum() + first[1].square().sum()}, {from.weights[0], from.weights[1]});
  };
  const auto second = second_of(made, linears(made.x, made.weights, made.biases)), wanted = second_of(exact, one_by_one(exact));
  for (std::size_t i = 0; i < 2; ++i)
    oumi::testing::expect_close(second[i], wanted[i], {1e-4, 1e-5 * wanted[i].abs().max().item<double>()}, cat("second ", i));
}

TEST(Linears, RestOnProductsOfAnyTypesAndBiases) {
  at::manual_seed(25);
  const Tensor x = at::randn({64, 128}), w = at::randn({128, 96}), other = at::randn({128, 48}), y = at::randn({80, 128});
  const Tensor bias = at::randn({96}), bias_of_y = at::randn({96}), none;
  const auto mixed = cpu::products(x, {w, other}, {at::kFloat, at::kBFloat16}, {bias, none});
  EXPECT_TRUE(mixed[0].equal(cpu::product(x, w, at::kFloat, bias)));
  EXPECT_TRUE(mixed[1].equal(cpu::product(x, other, at::kBFloat16)));
  const auto lefts = cpu::products({x, y}, w, {at::kFloat, at::kBFloat16}, {bias, bias_of_y});
  EXPECT_TRUE(lefts[0].equal(cpu::product(x, w, at::kFloat, bias)));
  EXPECT_TRUE(lefts[1].equal(cpu::product(y, w, at::kBFloat16, bias_of_y)));
}

TEST(Linears, TakeEmptyAndOddInputsAsLinearDoes) {
  const Tensor weight = at::randn({64, 128}), other = at::randn({32, 128});
  const auto empty = linears(at::randn({0, 128}), {weight, other}, {Tensor(), Tensor()});
  EXPECT_EQ(empty[0].sizes(), at::IntArrayRef({0, 64}));
  EXPECT_EQ(empty[1].sizes(), at::IntArrayRef({0, 32}));
  const auto vector = linears(at::randn({128}), {weight, other}, {Tensor(), Tensor()});
  EXPECT_EQ(vector[1].sizes(), at::IntArrayRef({32}));
  EXPECT_THROW(linears(at::randn({64, 127}), {weight, other}, {Tensor(), Tensor()}), c10::Error);
  EXPECT_THROW(linears(at::randn({64, 128}), {weight, other}, {at::randn({63}), Tensor()}), c10::Error);
}

TEST(Linears, UnderAutocastGiveBFloat16) {
  at::manual_seed(24);
  const Layers made = layers(at::kFloat, 64, {96, 48});
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const auto outs = linears(made.x, made.weights, made.biases), wanted = one_by_one(made);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(outs[i].scalar_type(), at::kBFloat16);
    EXPECT_TRUE(outs[i].equal(wanted[i])) << i;
  }
}

}  // namespace
}  // namespace oumi::kernels
