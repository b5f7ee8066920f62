#include "oumi/nn/discarded_activation.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "oumi/nn/activation_checkpointing.h"
#include "oumi/nn/decoder_layer.h"
#include "oumi/tensors/tensor_memory.h"

namespace oumi::nn {
namespace {

TEST(DiscardedActivation, BackwardFindsItAgain) {
  at::manual_seed(1);
  const Tensor x = at::randn({5, 7}).set_requires_grad(true), weight = at::randn({7, 3}).set_requires_grad(true);
  const auto gradients = [&](bool discard, int passes) {
    int remade = 0;
    const Tensor value = (x * 2).exp(), result = at::matmul(value.detach(), weight);
    // `detach` shares the memory: the exponential has kept it too.
    EXPECT_TRUE(is_kept_for_backward(value, result));
    if (discard) {
      discard_until_backward(value, result, [&, x = x.detach()] {
        EXPECT_FALSE(c10::GradMode::is_enabled());
        ++remade;
        return (x * 2).exp();
      });
      EXPECT_EQ(value.storage().nbytes(), 0U);
    }
    weight.mutable_grad() = Tensor();
    const Tensor loss = result.square().sum();
    for (int pass = 1; pass <= passes; ++pass) loss.backward({}, /*retain_graph=*/pass < passes);
    EXPECT_EQ(remade, discard ? 1 : 0);
    EXPECT_TRUE(at::equal(value, (x * 2).exp()));
    return weight.grad().clone();
  };
  EXPECT_TRUE(at::equal(gradients(true, 1), gradients(false, 1)));
  EXPECT_TRUE(at::equal(gradients(true, 3), gradients(false, 3)));
}

TEST(DiscardedActivation, NothingIsGainedWhereNothingIsKept) {
  const Tensor weight = at::randn({7, 3}).set_requires_grad(true), frozen = at::randn({7, 3});
  const Tensor x = at::randn({5, 7}).set_requires_grad(true);
  const Tensor value = x * 2, frozen_result = at::matmul(value, frozen);
  EXPECT_FALSE(is_kept_for_backward(value, frozen_result));  // a product with frozen weights keeps those alone
  const Tensor result = at::matmul(value, weight);
  EXPECT_TRUE(is_kept_for_backward(value, result));
  const Tensor large = at::randn({10, 7}).set_requires_grad(true) * 2, part = large.narrow(0, 0, 5);
  EXPECT_FALSE(is_kept_for_backward(part, at::matmul(part, weight)));  // others use the rest
  EXPECT_FALSE(is_kept_for_backward(value, value.detach()));
  const c10::AutoGradMode no_grad(false);
  EXPECT_FALSE(is_kept_for_backward(value, at::matmul(value, weight)));
}

struct SeeAll : CallHook {};

struct Case {
  const char* name;
  NormPlacement norms;
  at::ScalarType type;
  bool experts, fused, autocast, checkpointed;
};

class Layers : public ::testing::TestWithParam<Case> {};

// A layer whose parts have hooks keeps everything: the same losses and gradients, bit for bit, and more memory.
TEST_P(Layers, GradientsAreTheSameAsWithEverythingKept) {
  const Case& wanted = GetParam();
  at::manual_seed(2);
  DecoderLayerConfig config;
  config.attention = {.hidden_size = 32, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
  config.mlp = {.hidden_size = 32, .intermediate_size = 80, .fused_gate_up = wanted.fused};
  if (wanted.experts) {
    config.experts = SparseMoeConfig{.hidden_size = 32, .intermediate_size = 48, .num_experts = 4, .num_experts_per_token = 2};
  }
  config.norms = wanted.norms;
  DecoderLayer layer(config);
  layer->to(wanted.type);
  layer->train();
  if (wanted.checkpointed) checkpoint_activations(*layer, {"Attention", "GatedMlp"});
  DecoderContext context;
  context.rotary.push_back({at::randn({9, 4}).cos(), at::randn({9, 4}).sin()});
  const Tensor input = at::randn({2, 9, 32}, wanted.type);

  const auto gradients = [&] {
    const Tensor x = input.clone().set_requires_grad(true);
    layer->zero_grad();
    at::autocast::set_autocast_enabled(at::kCPU, wanted.autocast);
    const Tensor out = layer(x, context);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    out.to(at::kDouble).square().sum().backward();
    std::vector<Tensor> all{out.detach(), x.grad()};
    for (const Tensor& parameter : layer->parameters()) {
      if (parameter.grad().defined()) all.push_back(parameter.grad().clone());
    }
    return all;
  };
  const std::vector<Tensor> got = gradients();
  for (const auto& module : layer->modules()) {
    if (auto* ours = dynamic_cast<Module*>(module.get())) ours->add_call_hook(std::make_shared<SeeAll>());
  }
  const std::vector<Tensor> right = gradients();
  ASSERT_EQ(got.size(), right.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::equal(got[i], right[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Decoder, Layers,
    ::testing::Values(Case{"float32", NormPlacement::kBefore, at::kFloat},
                      Case{"bfloat16", NormPlacement::kBefore, at::kBFloat16},
                      Case{"float64", NormPlacement::kBefore, at::kDouble},
                      Case{"fused", NormPlacement::kBefore, at::kFloat, false, /*fused=*/true},
                      Case{"experts", NormPlacement::kBefore, at::kFloat, /*experts=*/true},
                      Case{"after", NormPlacement::kAfter, at::kFloat}, Case{"both", NormPlacement::kBoth, at::kBFloat16},
                      Case{"autocast", NormPlacement::kBefore, at::kFloat, false, false, /*autocast=*/true},
                      Case{"checkpointed", NormPlacement::kBefore, at::kBFloat16, false, false, false, /*checkpointed=*/true}),
    [](const auto& info) { return std::string(info.param.name); });

// Beside a layer whose parts have hooks, which keeps the outputs of two norms and of the gated activation.
TEST(DiscardedActivation, ALayerTakesThatMuchLess) {
  keep_tensor_memory();  // which counts
  constexpr std::int64_t kTokens = 1024, kHidden = 256, kMiddle = 1024;
  DecoderLayerConfig config;
  config.attention = {.hidden_size = kHidden, .num_heads = 4, .num_kv_heads = 4, .head_dim = kHidden / 4};
  config.mlp = {.hidden_size = kHidden, .intermediate_size = kMiddle};
  DecoderLayer layer(config);
  DecoderContext context;
  context.rotary.push_back({at::randn({kTokens, kHidden / 8}).cos(), at::randn({kTokens, kHidden / 8}).sin()});
  const Tensor x = at::randn({1, kTokens, kHidden}).set_requires_grad(true);
  const auto kept = [&] {
    const std::size_t before = tensor_memory_use().used;
    const Tensor out = layer(x, context);
    return tensor_memory_use().used - before;
  };
  const std::size_t less = kept();
  for (const auto& module : layer->modules(/*include_self=*/false)) {
    if (auto* ours = dynamic_cast<Module*>(module.get())) ours->add_call_hook(std::make_shared<SeeAll>());
  }
  EXPECT_EQ(kept() - less, 4 * kTokens * (2 * kHidden + kMiddle));
}

}  // namespace
}  // namespace oumi::nn
