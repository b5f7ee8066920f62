#include "oumi/optim/parameter_groups.h"

#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "oumi/optim/test_support.h"

namespace oumi {
namespace {

using namespace oumi::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// embed, block.fc, block.post (a LayerNorm whose name says nothing), final_norm, and head tied to embed.
struct Block : torch::nn::Module {
  Block() {
    register_module("fc", torch::nn::Linear(2, 2));
    register_module("post", torch::nn::LayerNorm(torch::nn::LayerNormOptions({2})));
  }
};
struct TiedHead : torch::nn::Module {
  explicit TiedHead(const Tensor& embedding) { register_parameter("weight", embedding); }
};
struct Model : torch::nn::Module {
  Model() {
    embed = register_parameter("embed", torch::ones({3, 2}));
    register_module("block", std::make_shared<Block>());
    register_module("final_norm", torch::nn::Linear(torch::nn::LinearOptions(2, 1).bias(false)));
    register_module("head", std::make_shared<TiedHead>(embed));
  }
  Tensor embed;
};

std::vector<std::string> names_in(const ParameterGroup& group) {
  std::vector<std::string> names;
  for (const auto& [name, parameter] : group.parameters) names.push_back(name);
  return names;
}

std::string refused(const ParameterGroupOptions& options) {
  return user_error([&] {
    Model model;
    make_parameter_groups(model, options);
  });
}

TEST(ParameterGroups, NamesDecayAsInTransformers) {
  const Json names = golden("decay_names");
  ASSERT_GT(names.size(), 50u);
  for (const Json& entry : names) {
    EXPECT_EQ(!is_no_decay_name(entry[0].get<std::string>()), entry[1].get<bool>()) << entry[0];
  }
}

TEST(ParameterGroups, TiedParametersAppearOnceAndLayerNormsByType) {
  Model model;
  std::vector<std::string> names;
  for (const auto& [name, parameter] : unique_named_parameters(model)) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("embed", "block.fc.weight", "block.fc.bias", "block.post.weight", "block.post.bias",
                                 "final_norm.weight"));
  EXPECT_THAT(decay_parameter_names(model), ElementsAre("embed", "block.fc.weight"));
}

TEST(ParameterGroups, TwoGroupsDecayFirst) {
  Model model;
  const auto groups = make_parameter_groups(model, {.weight_decay = 0.1});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_THAT(names_in(groups[0]), ElementsAre("embed", "block.fc.weight"));
  EXPECT_THAT(names_in(groups[1]), ElementsAre("block.fc.bias", "block.post.weight", "block.post.bias", "final_norm.weight"));
  EXPECT_EQ(groups[0].weight_decay, 0.1);
  EXPECT_EQ(groups[1].weight_decay, 0.0);
  EXPECT_EQ(parameter_names(groups).size(), 6u);
  EXPECT_EQ(parameter_names(groups)[2], "block.fc.bias");
}

TEST(ParameterGroups, BothGroupsStayWhenOneIsEmpty) {
  torch::nn::Linear linear(torch::nn::LinearOptions(2, 2).bias(false));
  const auto groups = make_parameter_groups(*linear, {});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_THAT(groups[1].parameters, IsEmpty());
}

TEST(ParameterGroups, OverridesSplitAndTheFirstMatchCounts) {
  Model model;
  const auto groups = make_parameter_groups(model, {.weight_decay = 0.1,
                                                    .overrides = {{.pattern = "fc\\.bias$", .weight_decay = 0.5},
                                                                  {.pattern = "^block\\.fc", .learning_rate = 1e-2},
                                                                  {.pattern = "embed", .freeze = true}}});
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_THAT(names_in(groups[0]), IsEmpty());
  EXPECT_THAT(names_in(groups[2]), ElementsAre("block.fc.weight"));
  EXPECT_EQ(groups[2].learning_rate, 1e-2);
  EXPECT_EQ(groups[2].weight_decay, 0.1);
  EXPECT_EQ(groups[2].name, "decay /^block\\.fc/");
  EXPECT_THAT(names_in(groups[3]), ElementsAre("block.fc.bias"));
  EXPECT_EQ(groups[3].learning_rate, std::nullopt);
  EXPECT_EQ(groups[3].weight_decay, 0.5);
  EXPECT_FALSE(model.embed.requires_grad());
}

TEST(ParameterGroups, BadOverridesAreRefused) {
  EXPECT_THAT(refused({.overrides = {{.pattern = "blok.fc.weight"}}}),
              HasSubstr("[parameter group 'blok.fc.weight'] expected a pattern that matches a parameter's name, got one that "
                        "matches none (did you mean 'block.fc.weight'?)"));
  EXPECT_THAT(refused({.overrides = {{.pattern = "("}}}), HasSubstr("[parameter group '('] expected a regular expression"));
  EXPECT_THAT(refused({.overrides = {{.pattern = "fc", .learning_rate = -1.0}}}),
              HasSubstr("learning_rate: expected 0 or more, got -1"));
  EXPECT_THAT(refused({.weight_decay = -0.1}), HasSubstr("[training.weight_decay] expected 0 or more, got -0.1"));
  EXPECT_THAT(refused({.overrides = {{.pattern = "", .freeze = true}}}), HasSubstr("got only frozen ones"));
  torch::nn::Module empty;
  EXPECT_THAT(user_error([&] { make_parameter_groups(empty, {}); }), HasSubstr("got a model without any"));
}

TEST(FreezeLayers, ByModuleAndByParameter) {
  Model model;
  EXPECT_EQ(freeze_layers(model, {"block.post", "final_norm.weight"}), 2u);
  const auto groups = make_parameter_groups(model, {});
  EXPECT_THAT(parameter_names(groups), ElementsAre("embed", "block.fc.weight", "block.fc.bias"));
}

TEST(FreezeLayers, UnknownNamesAreRefusedBeforeAnythingIsFrozen) {
  Model model;
  EXPECT_THAT(
      user_error([&] { freeze_layers(model, {"block", "blokc.fc"}); }),
      HasSubstr("[model.freeze_layers] expected the name of a module or parameter, got 'blokc.fc' (did you mean 'block.fc'?)"));
  EXPECT_THAT(user_error([&] { freeze_layers(model, {""}); }), HasSubstr("got ''"));
  for (const Tensor& parameter : model.parameters()) EXPECT_TRUE(parameter.requires_grad());
}

}  // namespace
}  // namespace oumi
