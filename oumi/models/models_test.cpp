// The built-in models against PyTorch (tests/golden/models.py), saved folders, and the ways to bring a model of one's own.
#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <torch/nn/modules/linear.h>

#include <cstdlib>

#include "oumi/base/files.h"
#include "oumi/checkpoint/manifest.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/adapt.h"
#include "oumi/models/build_model.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/registry.h"
#include "oumi/models/simple_model/simple_model.h"

namespace oumi {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::filesystem::path golden(const std::string& name) {
  const char* root = std::getenv("OUMI_SOURCE_DIR");
  return std::filesystem::path(root != nullptr ? root : ".") / "tests/golden/models" / (name + ".safetensors");
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const UserError& error) {
    return describe(error);
  }
  return "no error";
}

void expect_as_pytorch(const std::string& model_name, const std::string& file, const Kwargs& kwargs, const std::string& input) {
  const StateDict expected = load_safetensors(golden(file));
  at::manual_seed(42);
  const ModelPtr model = create_model(model_name, kwargs);
  const StateDict state = state_dict(*model);
  std::size_t weights = 0;
  for (const auto& [name, tensor] : expected) {
    if (name.rfind("weights.", 0) != 0) continue;
    ++weights;
    ASSERT_TRUE(state.contains(name.substr(8))) << name;
    EXPECT_TRUE(at::equal(state.at(name.substr(8)), tensor)) << name << " differs from PyTorch's initial value";
  }
  EXPECT_EQ(weights, state.size());
  model->eval();
  const c10::AutoGradMode no_grad(false);
  const Batch batch{{input, expected.at("inputs")}, {"labels", expected.at("labels")}, {"unknown_field", at::zeros({1})}};
  const Outputs outputs = (*model)(batch);
  EXPECT_TRUE(at::allclose(outputs.logits(), expected.at("logits"), 1e-5, 1e-6));
  EXPECT_NEAR(outputs.loss().item<double>(), expected.at("loss").item<double>(), 1e-5);
  EXPECT_FALSE((*model)(Batch{{input, expected.at("inputs")}}).has_loss());
}

TEST(Models, SimpleModelEqualsPyTorch) { expect_as_pytorch("simplemodel", "simple_model", {}, "images"); }

TEST(Models, CnnClassifierEqualsPyTorch) {
  expect_as_pytorch("CnnClassifier", "cnn_classifier",
                    {{"image_width", 4}, {"image_height", 4}, {"in_channels", 2}, {"output_dim", 3}, {"kernel_size", 1}},
                    "images");
}

TEST(Models, MlpEncoderEqualsPyTorch) {
  expect_as_pytorch("MlpEncoder", "mlp_encoder", {{"input_dim", 20}, {"hidden_dim", 8}, {"output_dim", 3}}, "input_ids");
}

TEST(Models, MisspelledKwargNamesTheNearest) {
  const std::string text = error_of([] { create_model("SimpleModel", Kwargs(Json{{"num_clases", 3}}, "model.model_kwargs")); });
  EXPECT_THAT(text, HasSubstr("model.model_kwargs.num_clases"));
  EXPECT_THAT(text, HasSubstr("did you mean 'num_classes'?"));
}

TEST(Models, WrongKwargTypeSaysWhatCame) {
  EXPECT_THAT(error_of([] { create_model("SimpleModel", Kwargs(Json{{"num_classes", "ten"}}, "model.model_kwargs")); }),
              HasSubstr("expected int, got str"));
}

TEST(Models, UnknownModelNamesTheNearest) {
  EXPECT_THAT(error_of([] { create_model("SimpelModel", {}); }), HasSubstr("did you mean 'SimpleModel'?"));
}

TEST(Models, ShapeErrorNamesThePath) {
  auto model = make_model<SimpleModel>();
  EXPECT_THAT(error_of([&] { (*model)(Batch{{"images", at::zeros({2, 1, 32, 32})}}); }),
              HasSubstr("[SimpleModel.fc1] expected [*, 320]"));
  EXPECT_THAT(error_of([&] { (*model)(Batch{{"images", at::zeros({2, 3, 28, 28})}}); }), HasSubstr("[SimpleModel.conv1]"));
  EXPECT_THAT(error_of([&] { (*model)(Batch{{"pixels", at::zeros({2, 1, 28, 28})}}); }),
              HasSubstr("expected 'model_inputs' or 'images', got [pixels]"));
}

TEST(Models, SavedFolderComesBackEqual) {
  const TemporaryDirectory folder;
  auto model = make_model<SimpleModel>({{"num_classes", 7}});
  model->save_pretrained(folder.path());
  const Json config = read_json_file(folder.path() / "config.json");
  EXPECT_EQ(config["model_type"], "SimpleModel");
  EXPECT_EQ(config["init_kwargs"], Json({{"num_classes", 7}}));
  for (const ModelPtr& loaded : {load_pretrained(folder.path()), ModelPtr(from_pretrained<SimpleModel>(folder.path())),
                                 build_model({.model_name = folder.path().string()})}) {
    for (const auto& [name, tensor] : state_dict(*model)) EXPECT_TRUE(at::equal(tensor, state_dict(*loaded).at(name))) << name;
  }
  EXPECT_THAT(error_of([&] { from_pretrained<SimpleModel>(folder.path(), {.override_kwargs = {{"num_classes", 8}}}); }),
              HasSubstr("expected shape [8, 320], got [7, 320]"));
}

// A weight with one bit changed is still a weight: the manifest alone tells.
TEST(Models, DamagedWeightsOfACheckpointAreNamed) {
  const TemporaryDirectory folder;
  make_model<SimpleModel>()->save_pretrained(folder.path());
  const auto weights = folder.path() / "model.safetensors", manifest_file = folder.path() / kManifestName;
  Manifest manifest;
  manifest.files["model.safetensors"] = {.size = std::filesystem::file_size(weights), .xxh3_128 = hash_file(weights)};
  write_file_atomically(manifest_file, to_json_text(manifest));
  EXPECT_EQ(error_of([&] { load_pretrained(folder.path()); }), "no error");
  std::string bytes = read_text_file(weights);
  bytes[bytes.size() - 9] ^= 1;
  write_file_atomically(weights, bytes);
  EXPECT_THAT(error_of([&] { load_pretrained(folder.path()); }), HasSubstr("model.safetensors] is damaged: expected hash"));
  write_file_atomically(weights, bytes + "x");
  EXPECT_THAT(error_of([&] { load_pretrained(folder.path()); }),
              HasSubstr("model.safetensors] is damaged: expected " + std::to_string(bytes.size()) + " bytes"));
  write_file_atomically(weights, bytes);
  write_file_atomically(manifest_file, "{\"name\": \"another program's\"}");
  EXPECT_THAT(error_of([&] { load_pretrained(folder.path()); }),
              HasSubstr("model.safetensors] tensor 'fc1.weight' is damaged"));
  bytes[bytes.size() - 9] ^= 1;
  write_file_atomically(weights, bytes);
  EXPECT_EQ(error_of([&] { load_pretrained(folder.path()); }), "no error");
}

// Oumi's from_pretrained refuses a folder whose model_type is not its class's name, letter by letter.
TEST(Models, SavedFoldersCarryOumisClassNames) {
  EXPECT_EQ(create_model("CnnClassifier", Kwargs{{"image_width", 28}, {"image_height", 28}})->model_type(), "CNNClassifier");
  EXPECT_EQ(create_model("MlpEncoder", Kwargs{})->model_type(), "MLPEncoder");
  EXPECT_EQ(create_model("SimpleModel", Kwargs{})->model_type(), "SimpleModel");
}

TEST(Models, RegisteredNameWithPretrainedWeightsIsRefused) {
  EXPECT_THAT(error_of([] { build_model({.model_name = "SimpleModel"}); }), HasSubstr("load_pretrained_weights: false"));
}

TEST(Models, StateDictErrorsListNames) {
  auto model = make_model<SimpleModel>();
  StateDict state = state_dict(*model);
  state.erase("fc1.bias");
  state.set("fc2.bias", at::zeros({1}));
  EXPECT_THAT(error_of([&] { load_state_dict(*model, state, true, "x"); }),
              HasSubstr("missing: fc1.bias; unexpected: fc2.bias"));
  const LoadReport report = load_state_dict(*model, state, false, "x");
  EXPECT_THAT(report.missing, ElementsAre("fc1.bias"));
}

struct PlainNet : torch::nn::Module {
  PlainNet() : fc(register_module("fc", torch::nn::Linear(4, 3))) {}
  std::tuple<Tensor, Tensor> forward(Tensor a, Tensor b) { return {fc(a + b), a}; }
  torch::nn::Linear fc;
};

TEST(Adapt, PlainTorchModuleWithTupleOutputs) {
  auto net = std::make_shared<PlainNet>();
  auto model = adapt(net, {.inputs = {"left", "right"}});
  EXPECT_THAT(state_dict(*model).names(), ElementsAre("fc.weight", "fc.bias"));
  const Outputs outputs =
      (*model)({{"left", at::ones({2, 4})}, {"right", at::zeros({2, 4})}, {"labels", at::zeros({2}, at::kLong)}});
  EXPECT_THAT(outputs.names(), ElementsAre("outputs", "output_1", "loss"));
  outputs.loss().backward();
  EXPECT_TRUE(net->fc->weight.grad().defined());
  model->eval();
  EXPECT_FALSE(net->is_training());
  EXPECT_THAT(error_of([&] { adapt(net, {.inputs = {"left"}}); }), HasSubstr("forward takes 2 tensors"));
}

// A structured config that derives from the dict type.
struct TinyKwargs : Kwargs {
  TinyKwargs(const Kwargs& kwargs)
      : Kwargs(kwargs), width(get<std::int64_t>("width", 2)), scale(get<double>("scale", 1.0)) {  // NOLINT
    check_all_read();
  }
  std::int64_t width;
  double scale;
};

class TinyModel : public Model {
 public:
  explicit TinyModel(const Kwargs& kwargs) : settings(kwargs) { fc = register_module("fc", nn::Linear(settings.width, 2)); }
  Outputs forward(const Batch& batch) override { return {{"logits", fc(batch.at("x")) * settings.scale}}; }
  TinyKwargs settings;

 private:
  nn::Linear fc{nullptr};
};

TEST(StructuredKwargs, DeriveFromTheDict) {
  const TinyModel model(Kwargs{{"width", 5}});
  EXPECT_EQ(model.settings.width, 5);
  EXPECT_EQ(model.settings.values(), Json({{"width", 5}}));
  EXPECT_THAT(error_of([] { TinyModel bad(Kwargs{{"widht", 5}}); }), HasSubstr("did you mean 'width'?"));
}

struct CountingHook : CallHook {
  void before(Module&, const TensorRefs& arguments) override { *arguments.front() = *arguments.front() * 2, ++befores; }
  void after(Module&, const TensorRefs& results) override { *results.front() = *results.front() + 1, ++afters; }
  int befores = 0, afters = 0;
};

TEST(CallPath, HooksRunAroundForwardAndMayReplaceTensors) {
  nn::Linear layer(2, 2);
  const Tensor x = at::ones({1, 2});
  const Tensor plain = layer(x * 2) + 1;
  auto hook = std::make_shared<CountingHook>();
  layer->add_call_hook(hook);
  EXPECT_TRUE(at::equal(layer(x), plain));
  EXPECT_EQ(hook->befores, 1);
  EXPECT_EQ(hook->afters, 1);
}

}  // namespace
}  // namespace oumi
