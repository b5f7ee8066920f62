// Weights made later are, to the bit, those of ordinary construction, whatever a constructor does; and so is the random
// generator.
#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/modules/transformer.h>
#include <torch/nn/modules/transformercoder.h>
#include <torch/nn/modules/transformerlayer.h>

#include <algorithm>
#include <cstring>

#include "oumi/checkpoint/rng_state.h"
#include "oumi/models/adapt.h"
#include "oumi/models/build_model.h"
#include "oumi/models/init_tape.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/registry.h"
#include "oumi/models/state.h"
#include "oumi/nn/layers.h"
#include "oumi/optim/parameter_groups.h"

namespace oumi {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
namespace init = torch::nn::init;

template <class F>
std::shared_ptr<torch::nn::Module> seeded(F&& make) {
  at::manual_seed(7);
  at::randn({3});  // the generator keeps half of a pair
  return make();
}

// Builds with `make` on a tape and compares with what it builds as ever. Returns the names that were left on the tape.
template <class F>
std::vector<std::string> expect_same_values(F&& make) {
  const auto whole = seeded(make);
  const Tensor rng_after = cpu_rng_state();
  InitTape tape;
  std::shared_ptr<torch::nn::Module> module;
  {
    const InitTape::Recording recording(tape);
    module = seeded(make);
  }
  EXPECT_TRUE(at::equal(rng_after, cpu_rng_state())) << "the random generator is elsewhere";
  const NamedParameters parameters = unique_named_parameters(*module);
  std::vector<Tensor> tensors;
  for (const auto& [name, parameter] : parameters) tensors.push_back(parameter);
  const std::vector<bool> left = tape.finish(tensors);
  EXPECT_TRUE(at::equal(rng_after, cpu_rng_state())) << "the random generator is elsewhere after finish";
  at::manual_seed(99);  // of no influence any more
  const Tensor rng_now = cpu_rng_state();
  const StateDict expected = state_dict(*whole), state = state_dict(*module);
  EXPECT_EQ(expected.names(), state.names());
  std::vector<std::string> names;
  std::unordered_map<const void*, Tensor> made;
  // Backwards: values don't depend on the order in which they are taken.
  for (std::size_t i = parameters.size(); i-- > 0;) {
    if (!left[i]) continue;
    names.push_back(parameters[i].first);
    made[tensors[i].unsafeGetTensorImpl()] = tape.value(tensors[i]);
  }
  EXPECT_TRUE(at::equal(rng_now, cpu_rng_state())) << "taking values moves the random generator";
  for (const auto& [name, tensor] : expected) {
    const Tensor own = state.at(name);
    const Tensor value = made.contains(own.unsafeGetTensorImpl()) ? made.at(own.unsafeGetTensorImpl()) : own;
    EXPECT_EQ(own.device(), tensor.device()) << name;
    EXPECT_EQ(own.strides(), tensor.strides()) << name;
    EXPECT_EQ(own.requires_grad(), tensor.requires_grad()) << name;
    EXPECT_EQ(value.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(value, tensor)) << name << " differs";
  }
  std::reverse(names.begin(), names.end());
  return names;
}

// A module by what its constructor does.
struct Built : torch::nn::Module {
  explicit Built(const std::function<void(Built&)>& build) { build(*this); }
  Tensor mask, view;
};
std::function<std::shared_ptr<torch::nn::Module>()> built(std::function<void(Built&)> build) {
  return [build] { return std::make_shared<Built>(build); };
}

const std::vector<std::string> kWeight{"weight"};

TEST(InitTape, LayersOfPyTorch) {
  EXPECT_EQ(expect_same_values([] { return torch::nn::Linear(300, 200).ptr(); }), kWeight);
  EXPECT_EQ(expect_same_values([] { return torch::nn::Conv2d(torch::nn::Conv2dOptions(64, 48, 5)).ptr(); }), kWeight);
  EXPECT_EQ(expect_same_values([] { return torch::nn::Embedding(torch::nn::EmbeddingOptions(3000, 20).padding_idx(2)).ptr(); }),
            kWeight);
  EXPECT_THAT(expect_same_values([] { return torch::nn::BatchNorm1d(40000).ptr(); }), UnorderedElementsAre("weight", "bias"));
  EXPECT_THAT(expect_same_values([] { return torch::nn::BatchNorm2d(16).ptr(); }), UnorderedElementsAre());
  EXPECT_EQ(expect_same_values([] {
              return torch::nn::LSTM(torch::nn::LSTMOptions(160, 150).num_layers(2).bidirectional(true)).ptr();
            }).size(),
            8u);
  EXPECT_EQ(expect_same_values([] { return torch::nn::MultiheadAttention(256, 4).ptr(); }).size(), 2u);
  EXPECT_EQ(expect_same_values([] {
              const torch::nn::TransformerEncoderLayer layer(torch::nn::TransformerEncoderLayerOptions(192, 4));
              return torch::nn::TransformerEncoder(layer, 3).ptr();
            }).size(),
            3u * 4);
}

TEST(InitTape, InitialValuesOfEveryKind) {
  const auto layers = [](const std::function<void(Tensor)>& set) {
    return [set]() -> std::shared_ptr<torch::nn::Module> {
      torch::nn::Sequential layers(torch::nn::Linear(200, 300), torch::nn::ReLU(), torch::nn::Linear(300, 200));
      layers->apply([&](torch::nn::Module& module) {
        if (auto* linear = module.as<torch::nn::Linear>()) set(linear->weight);
      });
      return layers.ptr();
    };
  };
  const std::vector<std::function<void(Tensor)>> kinds = {
      [](Tensor w) { init::xavier_uniform_(w); },
      [](Tensor w) { init::kaiming_normal_(w, 0.1, torch::kFanOut, torch::kReLU); },
      [](Tensor w) { init::orthogonal_(w, 1.5); },
      [](Tensor w) { init::sparse_(w, 0.2); },
      [](Tensor w) { init::eye_(w); },
      [](Tensor w) { init::constant_(w, 0.25); },
      [](Tensor w) {  // truncated by hand
        const at::NoGradGuard no_grad;
        w.uniform_(-0.9, 0.9).erfinv_().mul_(0.02 * std::sqrt(2.0)).clamp_(-0.04, 0.04);
      },
      [](Tensor w) { w.data().normal_(0, 0.02); },
      [](Tensor w) {
        const at::NoGradGuard no_grad;
        w.t().narrow(0, 3, 50).normal_();
        w[5].zero_();
        w.select(1, 0).copy_(at::linspace(0, 1, w.size(0)));
        w.masked_fill_(w > 1.5, 0);
      },
      [](Tensor w) { w.set_data(at::randn(w.sizes()) * 0.02 + at::arange(w.size(1))); },
      [](Tensor w) { w.set_data(at::bernoulli(at::rand(w.sizes())).mul(at::poisson(at::full(w.sizes(), 3.0)))); },
      [](Tensor w) {
        const auto dtype = c10::get_default_dtype();
        torch::set_default_dtype(caffe2::TypeMeta::Make<double>());
        const at::NoGradGuard no_grad;
        w.copy_(at::randn(w.sizes()));
        torch::set_default_dtype(dtype);
      },
      [](Tensor w) {
        at::manual_seed(5);
        init::normal_(w);
      },
  };
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(expect_same_values(layers(kinds[i])).size(), 2u);
  }
}

TEST(InitTape, ValuesThatAConstructorAsksFor) {
  // A number of a weight's decides about another one's.
  EXPECT_THAT(expect_same_values(built([](Built& self) {
                const Tensor first = self.register_parameter("first", torch::randn({200, 200}));
                const Tensor second = self.register_parameter("second", torch::randn({200, 200}));
                const at::NoGradGuard no_grad;
                second.div_(first.abs().max().item<double>());
                if (second.sum().item<float>() > 0) second.neg_();
                first.add_(1);
              })),
              testing::IsSubsetOf({"first", "second"}));
  // A forward in the constructor, in training mode: batch normalisation's running statistics move.
  EXPECT_THAT(expect_same_values(built([](Built& self) {
                torch::nn::Sequential layers(torch::nn::Conv2d(3, 16, 5), torch::nn::BatchNorm2d(16));
                self.register_module("layers", layers);
                const auto features = layers->forward(torch::randn({2, 3, 64, 64})).flatten(1).size(1);
                self.register_module("head", torch::nn::Linear(features, 10));
              })),
              testing::Contains("head.weight"));
  EXPECT_THAT(expect_same_values(built([](Built& self) {
                const at::NoGradGuard no_grad;
                torch::nn::BatchNorm1d norm(30000);
                self.register_module("norm", norm);
                norm->forward(torch::randn({4, 30000}));
              })),
              testing::IsSubsetOf({"norm.weight", "norm.bias"}));
}

TEST(InitTape, WhatIsKeptBesideParameters) {
  static Tensor kept;  // as a constructor's static would be
  const auto module = [](Built& self) {
    self.mask = torch::ones({300, 300}).tril();  // a plain member
    self.view = self.mask.narrow(0, 0, 200);
    self.register_buffer("table", torch::arange(40000).to(torch::kFloat).sin());
    self.register_parameter("weight", torch::rand({200, 300}) * self.view);
    kept = torch::rand({30000});
  };
  EXPECT_EQ(expect_same_values(built(module)), kWeight);
  const Tensor drawn_on_tape = kept;
  InitTape tape;
  std::shared_ptr<torch::nn::Module> recorded;
  {
    const InitTape::Recording recording(tape);
    recorded = seeded(built(module));
  }
  EXPECT_TRUE(tape.make_all());
  const auto& members = dynamic_cast<const Built&>(*recorded);
  EXPECT_TRUE(at::equal(members.mask, at::ones({300, 300}).tril()));
  EXPECT_TRUE(members.view.is_alias_of(members.mask));
  EXPECT_TRUE(at::equal(members.view, members.mask.narrow(0, 0, 200)));
  EXPECT_TRUE(at::equal(kept, drawn_on_tape));
  const auto whole = seeded(built(module));
  EXPECT_TRUE(at::equal(kept, drawn_on_tape));
  EXPECT_TRUE(at::equal(whole->parameters()[0], recorded->parameters()[0]));
}

TEST(InitTape, TiedAndConverted) {
  EXPECT_THAT(expect_same_values([]() -> std::shared_ptr<torch::nn::Module> {
                struct Tied : torch::nn::Module {
                  Tied() {
                    const Tensor weight = register_parameter("first", torch::randn({200, 200}));
                    register_parameter("second", weight);
                    scale = register_parameter("scale", torch::ones({20000}), /*requires_grad=*/false);
                  }
                  Tensor scale;
                };
                return std::make_shared<Tied>();
              }),
              UnorderedElementsAre("first", "scale"));
  EXPECT_EQ(expect_same_values([] {
              const at::NoGradGuard no_grad;
              torch::nn::Linear layer(300, 300);
              layer->to(torch::kBFloat16);
              return layer.ptr();
            }),
            kWeight);
  EXPECT_TRUE(expect_same_values([] {  // part of a graph: done as ever
                torch::nn::Linear layer(300, 300);
                layer->to(torch::kDouble);
                return layer.ptr();
              })
                  .empty());
  // What a weight is copied from changes afterwards, behind PyTorch's back.
  EXPECT_THAT(expect_same_values(built([](Built& self) {
                std::vector<float> values(40000, 1.5f);
                const Tensor source = at::from_blob(values.data(), {200, 200});
                const at::NoGradGuard no_grad;
                for (const char* name : {"first", "second"}) {
                  self.register_parameter(name, torch::empty({200, 200})).copy_(source);
                  std::fill(values.begin(), values.end(), -2.f);
                }
              })),
              UnorderedElementsAre("first", "second"));
}

TEST(InitTape, TwoParametersOfOneTensorAreMade) {
  EXPECT_TRUE(expect_same_values(built([](Built& self) {
                const Tensor both = torch::randn({400, 200});
                self.register_parameter("first", both.narrow(0, 0, 200).detach());
                self.register_parameter("second", both.narrow(0, 200, 200).detach());
              })).empty());
}

TEST(InitTape, MemoryThatIsntThereThrows) {
  const auto look = [](const std::function<void(Tensor&)>& touch) {
    InitTape tape;
    const InitTape::Recording recording(tape);
    Tensor weight = at::empty({200, 200});
    touch(weight);
  };
  EXPECT_THROW(look([](Tensor& w) { w.data_ptr<float>()[0] = 1; }), c10::Error);
  EXPECT_THROW(look([](Tensor& w) { std::memset(w.data_ptr(), 0, 8); }), c10::Error);
  EXPECT_THROW(look([](Tensor& w) { std::memset(w.mutable_data_ptr(), 0, 8); }), c10::Error);
  EXPECT_THROW(look([](Tensor& w) { w.const_data_ptr(); }), c10::Error);
  EXPECT_THROW(look([](Tensor& w) { w.accessor<float, 2>()[1][1] = 1; }), c10::Error);
  EXPECT_THROW(look([](Tensor& w) { w.storage().data(); }), c10::Error);
  EXPECT_THROW(look([](Tensor& w) { w.storage().mutable_data(); }), c10::Error);
  const Tensor after = at::empty({200, 200});
  EXPECT_NE(after.data_ptr(), nullptr);
}

// --- through build_model ---

struct ByHand : Model {  // writes a weight's memory
  explicit ByHand(const Kwargs& kwargs) {
    const Tensor weight = register_parameter("weight", torch::empty({200, kwargs.get<std::int64_t>("width", 200)}));
    layer = register_module("layer", nn::Linear(200, 200));
    for (std::int64_t i = 0; i < weight.numel(); ++i) weight.data_ptr<float>()[i] = static_cast<float>(i);
  }
  Outputs forward(const Batch&) override { return {}; }
  nn::Linear layer{nullptr};
};
struct WithItsOwnFiles : ByHand {
  explicit WithItsOwnFiles(const Kwargs&) : ByHand(Kwargs(Json{{"width", 10}})) {}
  void load_weights_from(const std::filesystem::path&) override {}
};
struct KeepsAView : Model {
  KeepsAView() {
    const Tensor weight = register_parameter("weight", torch::randn({200, 200}));
    transposed = weight.t();
  }
  Outputs forward(const Batch&) override { return {}; }
  Tensor transposed;
};

struct Layers : torch::nn::Module {
  Layers() {
    register_module("layer", torch::nn::Linear(200, 200));
    register_parameter("scale", torch::rand({20000}));
  }
  Tensor forward(const Tensor& x) { return x; }
};

class DeferredModels : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    register_model<ByHand>();
    register_model<WithItsOwnFiles>();
    register_model<KeepsAView>();
    model_registry().add("AdaptedLayers",
                         [](const Kwargs&) -> ModelPtr { return adapt(std::make_shared<Layers>(), {.inputs = {"x"}}); });
  }
  ModelPtr build(const ModelParams& params, bool defer) {
    at::manual_seed(3);
    return build_model(params, {.defer_weights = defer, .notice = [this](const std::string& text) { notices_ += text; }});
  }
  // The deferred model's values are the whole one's. Returns whether any were deferred.
  bool expect_same(const ModelParams& params) {
    const ModelPtr whole = build(params, false);
    const Tensor rng_after = cpu_rng_state();
    const ModelPtr model = build(params, true);
    EXPECT_TRUE(at::equal(rng_after, cpu_rng_state()));
    const bool deferred = model->weights_deferred();
    for (const auto& [name, tensor] : state_dict(*model))
      EXPECT_EQ(tensor.requires_grad(), state_dict(*whole).at(name).requires_grad());
    if (deferred) model->make_deferred_weights();
    const StateDict expected = state_dict(*whole), state = state_dict(*model);
    EXPECT_EQ(expected.names(), state.names());
    for (const auto& [name, tensor] : expected) {
      EXPECT_TRUE(at::equal(tensor, state.at(name))) << name;
      EXPECT_EQ(tensor.scalar_type(), state.at(name).scalar_type());
    }
    return deferred;
  }
  static ModelParams params(const std::string& name, Json kwargs = Json::object()) {
    ModelParams params;
    params.model_name = name;
    params.load_pretrained_weights = false;
    params.model_kwargs = std::move(kwargs);
    return params;
  }
  std::string notices_;
};

TEST_F(DeferredModels, OurOwn) {
  EXPECT_TRUE(expect_same(params("MlpEncoder", {{"input_dim", 400}, {"hidden_dim", 200}})));
  EXPECT_TRUE(expect_same(params("AdaptedLayers")));
  EXPECT_FALSE(expect_same(params("SimpleModel")));  // nothing in it is large
  EXPECT_TRUE(expect_same(
      params("CnnClassifier", {{"image_width", 64}, {"image_height", 64}, {"in_channels", 3}, {"output_dim", 10}})));
  ModelParams converted = params("MlpEncoder", {{"hidden_dim", 400}});
  converted.torch_dtype_str = "bfloat16";
  converted.freeze_layers = {"embedding"};
  EXPECT_TRUE(expect_same(converted));
  EXPECT_EQ(notices_, "");
}

TEST_F(DeferredModels, FoldersAreReadWeightByWeight) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "oumi_deferred_folder";
  ModelParams saved = params("MlpEncoder", {{"input_dim", 400}, {"hidden_dim", 200}});
  build(saved, false)->save_pretrained(folder);
  ModelParams loaded = params(folder.string());
  loaded.load_pretrained_weights = true;
  EXPECT_TRUE(expect_same(loaded));
  loaded.torch_dtype_str = "float64";
  EXPECT_TRUE(expect_same(loaded));
  std::filesystem::remove_all(folder);
}

TEST_F(DeferredModels, OthersAreMadeWhole) {
  EXPECT_FALSE(expect_same(params("ByHand")));
  EXPECT_THAT(notices_, HasSubstr("ByHand is made whole on every rank: its constructor reads or writes a weight's memory"));
  notices_.clear();
  EXPECT_FALSE(expect_same(params("WithItsOwnFiles")));
  EXPECT_THAT(notices_, HasSubstr("WithItsOwnFiles is made whole on every rank: it writes or reads files in a way of its own"));
  notices_.clear();
  EXPECT_FALSE(expect_same(params("KeepsAView")));
  EXPECT_THAT(notices_, HasSubstr("it keeps a view of a weight"));
  notices_.clear();
  EXPECT_THROW(build(params("MlpEncoder", {{"hiden_dim", 400}}), true), UserError);  // the model's own error, once more
  EXPECT_EQ(notices_, "");
}

}  // namespace
}  // namespace oumi
