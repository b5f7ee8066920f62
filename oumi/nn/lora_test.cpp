#include "oumi/nn/lora.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "oumi/nn/parallel_layers.h"

namespace oumi::nn {
namespace {

using ::testing::ElementsAre;

TEST(Lora, StartsAsTheBaseAndAddsTheScaledProduct) {
  at::manual_seed(1);
  Linear layer(6, 4);
  const Tensor x = at::randn({3, 6});
  const Tensor before = layer(x);
  const auto adapter = add_lora(*layer, {.rank = 2, .scaling = 3.0});
  EXPECT_TRUE(at::equal(layer(x), before));
  EXPECT_THAT(layer->named_parameters().keys(), ElementsAre("weight", "bias", "lora_A.weight", "lora_B.weight"));
  {
    const c10::AutoGradMode no_grad(false);
    adapter->lora_B()->weight.normal_();
  }
  const Tensor expected = before + 3.0 * at::linear(at::linear(x, adapter->lora_A()->weight), adapter->lora_B()->weight);
  EXPECT_TRUE(at::allclose(layer(x), expected, 1e-6, 1e-6));
}

TEST(Lora, MergedLayerComputesTheSame) {
  at::manual_seed(2);
  Linear layer(8, 5);
  const Tensor x = at::randn({3, 8});
  add_lora(*layer, {.rank = 3, .scaling = 0.5, .init = LoraInit::kRandom});
  const Tensor adapted = layer(x);
  merge_lora(*layer);
  EXPECT_EQ(lora_of(*layer), nullptr);
  EXPECT_THAT(layer->named_parameters().keys(), ElementsAre("weight", "bias"));
  EXPECT_TRUE(at::allclose(layer(x), adapted, 1e-5, 1e-6));
}

TEST(Lora, DropoutActsInTrainingModeAlone) {
  at::manual_seed(3);
  Linear layer(64, 4);
  add_lora(*layer, {.rank = 2, .scaling = 1.0, .dropout = 0.5, .init = LoraInit::kRandom});
  const Tensor x = at::ones({1, 64});
  EXPECT_FALSE(at::equal(layer(x), layer(x)));
  layer->eval();
  EXPECT_TRUE(at::equal(layer(x), layer(x)));
}

TEST(Lora, HalfPrecisionBaseKeepsFloatAdapters) {
  Linear layer(8, 4);
  layer->to(at::kBFloat16);
  const auto adapter = add_lora(*layer, {.rank = 2});
  EXPECT_EQ(adapter->lora_A()->weight.scalar_type(), at::kFloat);
  const Tensor out = layer(at::ones({2, 8}, at::kBFloat16));
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  out.sum().backward();
  EXPECT_TRUE(adapter->lora_B()->weight.grad().defined());
}

TEST(Lora, GaussianInitHasThePublishedSpread) {
  at::manual_seed(4);
  Linear layer(4096, 4);
  const auto adapter = add_lora(*layer, {.rank = 8, .init = LoraInit::kGaussian});
  EXPECT_NEAR(adapter->lora_A()->weight.std().item<double>(), 1.0 / 8, 0.002);
  EXPECT_TRUE(at::equal(adapter->lora_B()->weight, at::zeros_like(adapter->lora_B()->weight)));
}

// As queries, keys and values do: the same as each layer by itself, whatever adapter it has.
TEST(Lora, LayersWithOneInputGoTogether) {
  at::manual_seed(5);
  std::vector<Linear> layers{Linear(64, 96), Linear(64, 48, false), Linear(64, 48)};
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    for (const double dropout : {0.0, 0.5}) {
      std::vector<Tensor> inputs{at::randn({2, 40, 64}).to(type).requires_grad_(true)};
      for (std::size_t i = 0; i < layers.size(); ++i) {
        layers[i]->to(type);
        layers[i]->weight.requires_grad_(false);
        if (layers[i]->bias.defined()) layers[i]->bias.requires_grad_(false);
        remove_lora(*layers[i]);
        // One of three has dropout, and no layer goes with another then.
        const auto adapter = add_lora(*layers[i], {.rank = 4, .dropout = i == 1 ? dropout : 0.0, .init = LoraInit::kRandom});
        inputs.insert(inputs.end(), {adapter->lora_A()->weight, adapter->lora_B()->weight});
      }
      at::manual_seed(6);
      const std::vector<Tensor> together = outputs_of(inputs[0], layers);
      at::manual_seed(6);
      std::vector<Tensor> alone, upstream;
      for (Linear& layer : layers) alone.push_back(layer(inputs[0]));
      for (std::size_t i = 0; i < layers.size(); ++i) {
        EXPECT_TRUE(at::equal(together[i], alone[i])) << i;
        upstream.push_back(at::randn(alone[i].sizes()).to(type));
      }
      const auto gradients = torch::autograd::grad(together, inputs, upstream),
                 wanted = torch::autograd::grad(alone, inputs, upstream);
      // The input's is a sum, rounded once or once a layer.
      const double unit = type == at::kFloat ? 1e-6 : 1.0 / 64;
      EXPECT_TRUE(at::allclose(gradients[0], wanted[0], unit, 2 * unit));
      for (std::size_t i = 1; i < inputs.size(); ++i) EXPECT_TRUE(at::equal(gradients[i], wanted[i])) << i;
    }
  }
}

}  // namespace
}  // namespace oumi::nn
