#include "oumi/nn/activation_checkpointing.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/distributed/sharding.h"
#include "oumi/distributed/testing.h"
#include "oumi/nn/layers.h"

namespace oumi::nn {
namespace {

using ::testing::HasSubstr;

// Takes a tensor that needs a gradient, one that does not and one that may be absent; returns a pair.
class BlockImpl : public Module {
 public:
  BlockImpl() : up(register_module("up", Linear(16, 32))), down(register_module("down", Linear(32, 16))) {}
  std::pair<Tensor, Tensor> forward(const Tensor& x, const std::optional<Tensor>& shift, std::int64_t scale) {
    ++calls;
    Tensor hidden = at::dropout(up(x).relu(), 0.3, is_training());
    if (shift) hidden = hidden + *shift;
    const Tensor out = x + down(hidden) * scale;
    return {out, out.mean()};
  }
  Linear up, down;
  int calls = 0;
};
OUMI_MODULE(Block);

class NetImpl : public Module {
 public:
  NetImpl() {
    for (int i = 0; i < 3; ++i) blocks.push_back(register_module(cat("block", i), Block()));
    head = register_module("head", torch::nn::Linear(16, 2));
  }
  Tensor forward(Tensor x) {
    Tensor extra = x.new_zeros({});
    const Tensor shift = x.new_full({}, 0.1);
    for (Block& block : blocks) {
      auto [out, mean] = block(x, blocks.size() > 2 ? std::optional<Tensor>(shift) : std::nullopt, 2);
      x = out;
      extra = extra + mean;
    }
    return head(x).pow(2).sum() + extra;
  }
  std::vector<Block> blocks;
  torch::nn::Linear head{nullptr};
};
OUMI_MODULE(Net);

struct Result {
  Tensor loss;
  std::vector<Tensor> gradients;
};

Result backward_of(Net& net, const Tensor& x, bool autocast) {
  net->zero_grad();
  at::manual_seed(11);
  Tensor loss;
  {
    const bool before = at::autocast::is_autocast_enabled(at::kCPU);
    at::autocast::set_autocast_enabled(at::kCPU, autocast);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::increment_nesting();
    loss = net(x);
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, before);
  }
  loss.backward();
  Result result{loss.detach().clone(), {}};
  for (const Tensor& parameter : net->parameters())
    result.gradients.push_back(parameter.grad().defined() ? parameter.grad().clone() : Tensor());
  return result;
}

void expect_equal(const Result& a, const Result& b) {
  EXPECT_TRUE(at::equal(a.loss, b.loss));
  for (std::size_t i = 0; i < a.gradients.size(); ++i) {
    ASSERT_EQ(a.gradients[i].defined(), b.gradients[i].defined()) << i;
    if (a.gradients[i].defined()) {
      EXPECT_TRUE(at::equal(a.gradients[i], b.gradients[i])) << i;
    }
  }
}

TEST(ActivationCheckpointing, LossAndGradientsAreEqualBitForBit) {
  for (const bool autocast : {false, true}) {
    at::manual_seed(5);
    Net net;
    const Tensor x = at::randn({4, 16});
    const Result plain = backward_of(net, x, autocast);
    EXPECT_EQ(checkpoint_activations(*net, {"Block"}), 3);
    const int calls = net->blocks[0]->calls;
    const Result again = backward_of(net, x, autocast);
    EXPECT_EQ(net->blocks[0]->calls, calls + 2);
    expect_equal(plain, again);
    keep_activations(*net);
    expect_equal(plain, backward_of(net, x, autocast));
  }
}

TEST(ActivationCheckpointing, RandomStateAfterwardsIsTheSame) {
  at::manual_seed(5);
  Net net;
  const Tensor x = at::randn({4, 16});
  backward_of(net, x, false);
  const Tensor next = at::randn({3});
  checkpoint_activations(*net, {"Block"});
  backward_of(net, x, false);
  EXPECT_TRUE(at::equal(at::randn({3}), next));
}

TEST(ActivationCheckpointing, ParametersGetGradientsWhenTheInputNeedsNone) {
  at::manual_seed(6);
  Net net;
  for (Tensor& parameter : net->parameters()) parameter.requires_grad_(false);
  net->blocks[0]->up->weight.requires_grad_(true);
  const Tensor x = at::randn({4, 16});
  const Result plain = backward_of(net, x, false);
  checkpoint_activations(*net, {"Block"}, {.every_n = 2});
  expect_equal(plain, backward_of(net, x, false));
  EXPECT_TRUE(plain.gradients[0].defined());
}

TEST(ActivationCheckpointing, NothingIsRunAgainWithoutGradients) {
  Net net;
  checkpoint_activations(*net, {"Block"});
  const c10::AutoGradMode no_grad(false);
  net(at::randn({4, 16}));
  EXPECT_EQ(net->blocks[0]->calls, 1);
}

// Of one rank: the others would share this process's generator. tests/distributed/equality.sh has two.
std::vector<Tensor> sharded_gradients(const ShardingOptions& options, bool recompute, int& calls) {
  at::manual_seed(8);
  Net net;
  const Tensor x = at::randn({4, 16});
  std::vector<Tensor> gradients;
  const auto errors = oumi::testing::run_ranks(1, oumi::testing::kQuick, [&](std::shared_ptr<ProcessGroup> group) {
    NamedTensors parameters;
    for (const auto& item : net->named_parameters()) parameters.emplace_back(item.key(), item.value());
    const auto sharding = shard_model(make_shard_groups(group, 0, ""), *net, parameters, options);
    if (recompute) checkpoint_activations(*net, {"Block"});
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
      at::manual_seed(11);
      sharding->backward(net(x), micro_batch == 1);
    }
    sharding->clip_gradients(0);
    for (const ParameterShard& shard : sharding->shards()) gradients.push_back(shard.value.grad().clone());
    sharding->zero_grad();
  });
  EXPECT_THAT(errors, ::testing::ElementsAre(""));
  calls = net->blocks[0]->calls;
  return gradients;
}

TEST(ActivationCheckpointing, LayersWhoseWeightsAreShardsAreRunAgain) {
  // Units that are the checkpointed layers, units inside of them, and one unit for everything.
  for (const ShardingOptions& wrap :
       {ShardingOptions{.wrap_classes = {"Block"}}, ShardingOptions{.min_num_params = 100}, ShardingOptions{}}) {
    for (const ShardingMode mode : {ShardingMode::kFullShard, ShardingMode::kShardGradOp}) {
      ShardingOptions options = wrap;
      options.mode = mode;
      int calls = 0;
      const std::vector<Tensor> expected = sharded_gradients(options, false, calls);
      EXPECT_EQ(calls, 2);
      const std::vector<Tensor> got = sharded_gradients(options, true, calls);
      EXPECT_EQ(calls, 4);
      ASSERT_EQ(expected.size(), 14u);
      ASSERT_EQ(got.size(), expected.size());
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::equal(got[i], expected[i])) << i;
    }
  }
}

TEST(ActivationCheckpointing, ErrorsNameClasses) {
  Net net;
  const auto error_of = [&](const std::vector<std::string>& classes) -> std::string {
    try {
      checkpoint_activations(*net, classes);
    } catch (const UserError& error) {
      return error.message() + " " + error.hint();
    }
    return "none";
  };
  EXPECT_THAT(error_of({"Blok"}), HasSubstr("the model has Block, Linear"));
  EXPECT_THAT(error_of({"head"}), HasSubstr("a torch module of class Linear"));
}

}  // namespace
}  // namespace oumi::nn
