// A model split over ranks takes the same steps as on one.
#include "oumi/distributed/sharding.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <cmath>

#include "oumi/distributed/gradient_sync.h"
#include "oumi/distributed/testing.h"
#include "oumi/tensors/module.h"

namespace oumi {
namespace {

using testing::kQuick;
using testing::run_ranks;

struct BlockImpl : Module {
  explicit BlockImpl(std::int64_t width) {
    weight = register_parameter("weight", at::randn({width, width}) * 0.3);
    bias = register_parameter("bias", at::randn({width}) * 0.1);
  }
  Tensor forward(const Tensor& x) { return x + at::tanh(at::linear(x, weight, bias)); }
  Tensor weight, bias;
};
OUMI_MODULE(Block);

struct NetImpl : Module {
  NetImpl() {
    first = register_parameter("first", at::randn({7, 5}) * 0.3);
    for (int i = 0; i < 3; ++i) blocks.push_back(register_module("block" + std::to_string(i), Block(7)));
    unused = register_parameter("unused", at::randn({3}));
  }
  Tensor forward(const Tensor& x) {
    Tensor hidden = at::linear(x, first);
    for (Block& block : blocks) hidden = block(hidden);
    // `first` again: a tied weight, used at both ends.
    return at::linear(hidden, first.t()).square().mean();
  }
  Tensor first, unused;
  std::vector<Block> blocks;
};
OUMI_MODULE(Net);

NamedTensors parameters_of(const torch::nn::Module& model) {
  NamedTensors result;
  for (const auto& item : model.named_parameters()) result.emplace_back(item.key(), item.value());
  return result;
}

constexpr int kSteps = 4, kMicroBatches = 2;
constexpr std::int64_t kBatch = 6;  // of all ranks
constexpr double kLearningRate = 0.5, kMaxNorm = 0.05;

Tensor batch_of(int step, int micro_batch) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(100 + step * 10 + micro_batch));
  return at::randn({kBatch, 5}, generator);
}

// On one rank, by hand.
Net reference(std::vector<double>& norms) {
  at::manual_seed(3);
  Net net;
  for (int step = 0; step < kSteps; ++step) {
    for (int i = 0; i < kMicroBatches; ++i) (net(batch_of(step, i)) / kMicroBatches).backward();
    const at::NoGradGuard no_grad;
    double squares = 0;
    for (const Tensor& parameter : net->parameters()) {
      if (parameter.grad().defined()) squares += parameter.grad().square().sum().item<double>();
    }
    norms.push_back(std::sqrt(squares));
    const double factor = std::min(1.0, kMaxNorm / (norms.back() + 1e-6));
    for (Tensor& parameter : net->parameters()) {
      if (!parameter.grad().defined()) continue;
      parameter.sub_(parameter.grad() * (factor * kLearningRate));
      parameter.mutable_grad().reset();
    }
  }
  return net;
}

struct Case {
  const char* name;
  ShardingOptions options;
  std::int64_t world_size;
};

class ShardingEquality : public ::testing::TestWithParam<Case> {};

TEST_P(ShardingEquality, TakesTheStepsOfOneRank) {
  std::vector<double> norms;
  Net expected = reference(norms);
  const ShardingOptions& options = GetParam().options;
  const std::int64_t world = GetParam().world_size;
  // Threads share the generator that initial weights come from, so they are made one after another.
  std::vector<Net> nets;
  for (std::int64_t rank = 0; rank < world; ++rank) {
    at::manual_seed(3);
    nets.emplace_back();
  }
  const auto errors = run_ranks(world, kQuick, [&](std::shared_ptr<ProcessGroup> group) {
    Net& net = nets[static_cast<std::size_t>(group->rank())];
    auto sharding =
        options.mode == ShardingMode::kZero1
            ? shard_optimizer(group, parameters_of(*net), {.find_unused_parameters = true})
            : shard_model(make_shard_groups(group, options.shard_group_size, "size"), *net, parameters_of(*net), options);
    std::int64_t own = 0, all = 0;
    for (const ParameterShard& shard : sharding->shards()) own += shard.end - shard.begin;
    for (const Tensor& parameter : net->parameters()) all += parameter.numel();
    const std::int64_t parts = options.shard_group_size > 0 ? options.shard_group_size : world;
    EXPECT_LE(own, all / parts + 4 * parts);
    for (int step = 0; step < kSteps; ++step) {
      for (int i = 0; i < kMicroBatches; ++i) {
        const Tensor part = batch_of(step, i).chunk(world)[group->rank()];
        sharding->backward(net(part) / kMicroBatches, i + 1 == kMicroBatches);
      }
      EXPECT_NEAR(sharding->clip_gradients(kMaxNorm), norms[static_cast<std::size_t>(step)], 1e-6);
      const at::NoGradGuard no_grad;
      for (const ParameterShard& shard : sharding->shards()) {
        if (!shard.value.defined() || !shard.value.grad().defined()) continue;
        Tensor value = shard.value;
        value.sub_(value.grad() * kLearningRate);
      }
      sharding->after_step();
      sharding->zero_grad();
    }
    {
      const at::NoGradGuard no_grad;  // an evaluation in between
      net(batch_of(0, 0));
    }
    sharding->hold_weights_on_main();
    if (group->is_main()) {
      for (const auto& item : net->named_parameters()) {
        EXPECT_TRUE(at::allclose(item.value(), expected->named_parameters()[item.key()], 0, 1e-6)) << item.key();
      }
    }
    sharding->release_weights();
    sharding->gather_for_good();
    for (const auto& item : net->named_parameters()) {
      EXPECT_TRUE(at::allclose(item.value(), expected->named_parameters()[item.key()], 0, 1e-6))
          << item.key() << " on rank " << group->rank();
    }
  });
  EXPECT_THAT(errors, ::testing::Each(""));
}

INSTANTIATE_TEST_SUITE_P(
    Modes, ShardingEquality,
    ::testing::Values(
        Case{"zero1", {.mode = ShardingMode::kZero1}, 2}, Case{"zero1_3", {.mode = ShardingMode::kZero1}, 3},
        Case{"full", {.mode = ShardingMode::kFullShard, .wrap_classes = {"Block"}}, 2},
        Case{"full_3", {.mode = ShardingMode::kFullShard, .wrap_classes = {"Block"}, .forward_prefetch = true}, 3},
        Case{"grad_op", {.mode = ShardingMode::kShardGradOp, .wrap_classes = {"Block"}}, 2},
        Case{"by_size", {.mode = ShardingMode::kFullShard, .min_num_params = 20, .backward_prefetch = false}, 2},
        Case{"one_unit", {.mode = ShardingMode::kFullShard}, 2},
        Case{"hybrid_3_by_2", {.mode = ShardingMode::kFullShard, .wrap_classes = {"Block"}, .shard_group_size = 2}, 6},
        Case{"hybrid_grad_op", {.mode = ShardingMode::kShardGradOp, .min_num_params = 20, .shard_group_size = 3}, 6}),
    [](const auto& info) { return std::string(info.param.name); });

// One rank's part of a model: `split` is its own, `whole` every rank's. Gradients are `slope` and 2.
struct PartImpl : Module {
  explicit PartImpl(double gradient) : slope(gradient) {
    split = register_parameter("split", at::zeros({5}));
    whole = register_parameter("whole", at::zeros({4}));
  }
  Tensor forward(const Tensor& x) { return (split * slope + x).sum() + (whole * 2).sum(); }
  Tensor split, whole;
  double slope;
};
OUMI_MODULE(Part);

TEST(Sharding, CountsTheNormOverPartsOfAModel) {
  for (const ShardingMode mode : {ShardingMode::kZero1, ShardingMode::kFullShard}) {
    const auto errors = run_ranks(4, kQuick, [&](std::shared_ptr<ProcessGroup> group) {
      const RankMesh mesh = make_rank_mesh(group, 2);
      Part part(mesh.tensor->rank() == 0 ? 3 : 4);
      auto sharding = mode == ShardingMode::kZero1
                          ? shard_optimizer(mesh.data, parameters_of(*part), {})
                          : shard_model(make_shard_groups(mesh.data, 0, "size"), *part, parameters_of(*part), {.mode = mode});
      sharding->spread_norm(mesh.tensor, mesh.tensor->is_main() ? std::set<std::string>{} : std::set<std::string>{"whole"});
      sharding->backward(part(at::zeros({5})), true);
      const double norm = std::sqrt(5 * 9 + 5 * 16 + 4 * 4);
      EXPECT_NEAR(sharding->clip_gradients(norm / 2), norm, 1e-5);
      for (const ParameterShard& shard : sharding->shards()) {
        if (!shard.value.defined()) continue;
        const double gradient = shard.name == "whole" ? 2 : part->slope;
        EXPECT_TRUE(at::allclose(shard.value.grad(), at::full_like(shard.value, gradient / 2))) << shard.name;
      }
    });
    EXPECT_THAT(errors, ::testing::Each(""));
  }
}

TEST(ShardModel, FreesWhatIsNotInUse) {
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    Net net;
    const auto sharding = shard_model(make_shard_groups(group, 0, "size"), *net, parameters_of(*net),
                                      {.mode = ShardingMode::kFullShard, .wrap_classes = {"Block"}});
    const Tensor loss = net(batch_of(0, 0));
    EXPECT_EQ(net->blocks[0]->weight.storage().nbytes(), 0U);
    EXPECT_GT(net->first.storage().nbytes(), 0U);  // the model's own stay until backward has ended
    sharding->backward(loss, true);
    for (const Tensor& parameter : net->parameters()) EXPECT_EQ(parameter.storage().nbytes(), 0U);
    for (const Tensor& parameter : net->parameters()) EXPECT_FALSE(parameter.grad().defined());
  });
  EXPECT_THAT(errors, ::testing::Each(""));
}

TEST(ShardGroups, NeedEqualCopies) {
  const auto errors = run_ranks(3, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    EXPECT_EQ(make_shard_groups(group, 3, "size").copies->world_size(), 1);
    make_shard_groups(group, 2, "size");
  });
  EXPECT_THAT(errors, ::testing::Each(
                          ::testing::HasSubstr("[size] expected a divisor of the number of data-parallel ranks (3), got 2")));
}

struct PlainImpl : Module {
  PlainImpl() { register_module("plain", torch::nn::Linear(2, 2)); }
};

TEST(ShardModel, RefusesClassesThatAreNoUnits) {
  const auto error_of = [](Module& model, const std::string& name) {
    try {
      shard_model(make_shard_groups(std::make_shared<ProcessGroup>(), 0, "size"), model, parameters_of(model),
                  {.mode = ShardingMode::kFullShard, .wrap_classes = {name}});
    } catch (const UserError& error) {
      return describe(error);
    }
    return std::string("no error");
  };
  NetImpl net;
  EXPECT_THAT(error_of(net, "Blok"),
              ::testing::HasSubstr("[fsdp.transformer_layer_cls] expected the class of a module of this model, got Blok"));
  PlainImpl plain;
  EXPECT_THAT(error_of(plain, "Linear"), ::testing::HasSubstr("Linear is a plain torch module"));
}

}  // namespace
}  // namespace oumi
