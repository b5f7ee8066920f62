#include "oumi/nn/quantized_linear.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include "oumi/nn/lora.h"

namespace oumi::nn {
namespace {

using ::testing::ElementsAre;

TEST(QuantizedLinear, ComputesWithTheDequantisedWeightForwardAndBackward) {
  at::manual_seed(1);
  for (const bool nested : {false, true}) {
    for (const auto type : {kernels::FourBitType::kNf4, kernels::FourBitType::kFp4}) {
      Linear layer(40, 100);  // 40 columns: rows begin inside quantisation blocks
      layer->weight.requires_grad_(false);
      const Tensor original = layer->weight;
      quantize(*layer, {.type = type, .nested = nested});
      EXPECT_THAT(layer->named_parameters().keys(), ElementsAre("bias"));
      const Tensor dense = quantized_weight(*layer)->dense();
      EXPECT_LT((dense - original).abs().max().item<double>(), 0.25 * original.abs().max().item<double>());

      const Tensor x = at::randn({3, 5, 40}).requires_grad_(true), x2 = x.detach().clone().requires_grad_(true);
      const Tensor y = layer(x), expected = at::linear(x2, dense, layer->bias);
      EXPECT_TRUE(at::allclose(y, expected, 1e-5, 1e-6));
      const Tensor direction = at::randn(y.sizes());
      (y * direction).sum().backward();
      (expected * direction).sum().backward();
      EXPECT_TRUE(at::allclose(x.grad(), x2.grad(), 1e-5, 1e-6));
    }
  }
}

TEST(QuantizedLinear, LargeLayersGoThroughRowBlocks) {
  at::manual_seed(2);
  Linear layer(1024, 3000, false);
  quantize(*layer, {.compute_dtype = at::kBFloat16});
  const Tensor x = at::randn({4, 1024});
  const Tensor dense = quantized_weight(*layer)->dense();
  EXPECT_TRUE(at::allclose(layer(x), at::linear(x.to(at::kBFloat16), dense.to(at::kBFloat16)).to(at::kFloat), 1e-2, 1e-2));
}

TEST(QuantizedLinear, TakesHalfAByteAnElementAndItsScales) {
  const Tensor weight = at::randn({256, 256});
  EXPECT_EQ(QuantizedWeight(weight, {}).bytes(), 256 * 256 / 2 + 4 * 256 * 256 / 64);
  EXPECT_EQ(QuantizedWeight(weight, {.nested = true}).bytes(), 256 * 256 / 2 + 256 * 256 / 64 + 4 * 4 + 4);
}

TEST(QuantizedLinear, CarriesLora) {
  at::manual_seed(3);
  Linear layer(64, 32);
  quantize(*layer, {});
  const Tensor x = at::randn({2, 64});
  const Tensor before = layer(x);
  add_lora(*layer, {.rank = 4});
  EXPECT_TRUE(at::equal(layer(x), before));
  layer(x).sum().backward();
  EXPECT_TRUE(lora_of(*layer)->lora_B()->weight.grad().defined());
  ASSERT_NE(quantized_weight(*layer), nullptr);
  merge_lora(*layer);
  EXPECT_THAT(layer->named_parameters().keys(), ElementsAre("weight", "bias"));
  EXPECT_TRUE(at::allclose(layer(x), before, 1e-5, 1e-6));
}

}  // namespace
}  // namespace oumi::nn
