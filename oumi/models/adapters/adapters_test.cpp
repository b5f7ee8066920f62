// Against PEFT on tiny models of Transformers: tests/golden/adapters.py.
#include "oumi/models/adapters/adapters.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/adapters/linear_layers.h"
#include "oumi/models/adapters/quantize_model.h"
#include "oumi/models/build_model.h"
#include "oumi/models/cnn_classifier/cnn_classifier.h"
#include "oumi/models/pretrained.h"
#include "oumi/models/simple_model/simple_model.h"
#include "oumi/nn/quantized_linear.h"
#include "oumi/optim/optimizer.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char* const kCases[] = {"llama_default", "llama_all", "gpt2_bias", "gpt2_all_biases"};

fs::path golden(const std::string& name) {
  const char* source = std::getenv("OUMI_SOURCE_DIR");
  return fs::path(source == nullptr ? "." : source) / "tests/golden/adapters" / name;
}

ModelPtr base_model(const std::string& name) { return build_model({.model_name = (golden(name) / "base").string()}); }

// The generator's batches.
Batch batch(std::int64_t step) {
  constexpr std::int64_t kVocabulary = 48;
  Tensor ids = at::ones({2, 12}, at::kLong);
  for (std::int64_t row = 0; row < 2; ++row) {
    for (std::int64_t i = 0; i < 12; ++i) ids[row][i] = (7 * step + 5 * i * (i + row + 1) + 11 * row) % kVocabulary;
  }
  Tensor mask = at::ones({2, 12}, at::kLong), labels = ids.clone();
  mask[1].narrow(0, 9, 3).zero_();
  labels[1].narrow(0, 9, 3).fill_(-100);
  labels[0].narrow(0, 0, 3).fill_(-100);
  return {{"input_ids", ids}, {"attention_mask", mask}, {"labels", labels}};
}

std::vector<double> train(Model& model, std::int64_t steps) {
  ParameterGroup group{"all", {}, 0.01, {}};
  for (const auto& item : model.named_parameters()) {
    if (item.value().requires_grad()) group.parameters.emplace_back(item.key(), item.value());
  }
  const auto optimizer = make_optimizer({.name = "adamw_torch", .learning_rate = 5e-3, .adam_epsilon = 1e-6}, {group});
  model.train();
  std::vector<double> losses;
  for (std::int64_t step = 0; step < steps; ++step) {
    const Tensor loss = model(batch(step)).loss();
    loss.backward();
    optimizer->step();
    optimizer->zero_grad();
    losses.push_back(loss.item<double>());
  }
  return losses;
}

void expect_close(const Tensor& actual, const Tensor& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  EXPECT_LE((actual.detach() - expected).abs().max().item<double>(), tolerance) << what;
}

// GPT-2's key biases shift all scores of a query alike, so softmax takes them out: their gradient is rounding, which Adam's
// normalised step blows up. They are compared by how far 20 steps of 5e-3 can part two of them, the rest by `tolerance`.
void expect_trained_alike(const Tensor& actual, const Tensor& expected, double tolerance, const std::string& what) {
  if (!what.ends_with("c_attn.bias") && !what.ends_with("c_attn.base_layer.bias"))
    return expect_close(actual, expected, tolerance, what);
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const auto own = actual.chunk(3), wanted = expected.chunk(3);
  expect_close(own[0], wanted[0], tolerance, what + " (query)");
  expect_close(own[1], wanted[1], 2 * 20 * 5e-3, what + " (key)");
  expect_close(own[2], wanted[2], tolerance, what + " (value)");
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return "[" + error.component() + "] " + error.message() + " (" + error.hint() + ")";
  }
  return "no error";
}

TEST(Adapters, TrainAsPeftDoes) {
  for (const std::string name : kCases) {
    const Json expected = read_json_file(golden(name) / "case.json");
    const ModelPtr model = base_model(name);
    load_adapter(*model, golden(name) / "start", {.trainable = true});
    std::set<std::string> trained;
    for (const auto& item : model->named_parameters()) {
      if (item.value().requires_grad()) trained.insert(item.key());
    }
    EXPECT_EQ(Json(trained), expected["trained"]) << name;
    const std::vector<double> losses = train(*model, 20);
    for (std::size_t i = 0; i < losses.size(); ++i) {
      const auto wanted = expected["losses"][i].get<double>();
      EXPECT_NEAR(losses[i], wanted, 2e-5 * wanted) << name << " update " << i;
    }
    const StateDict finished = load_safetensors(golden(name) / "finished" / "adapter_model.safetensors");
    const StateDict own = adapter_state_dict(*model);
    EXPECT_EQ(own.size(), finished.size()) << name;
    for (const auto& [key, tensor] : finished) expect_trained_alike(own.at(key), tensor, 1e-4, name + " " + key);

    model->eval();
    const c10::AutoGradMode no_grad(false);
    const Batch inputs{{"input_ids", batch(0).at("input_ids").narrow(0, 0, 1)}};
    const Tensor logits = (*model)(inputs).logits()[0][-1];
    for (std::int64_t i = 0; i < logits.numel(); ++i)
      EXPECT_NEAR(logits[i].item<double>(), expected["logits"][static_cast<std::size_t>(i)].get<double>(), 2e-4) << name;

    // Merged: by a save, which leaves the model as it is, and for good.
    const TemporaryDirectory folder;
    save_base_model(*model, folder.path(), AdapterSaving::kMerged);
    EXPECT_TRUE(at::equal((*model)(inputs).logits()[0][-1], logits)) << name;
    const StateDict saved = load_weights(folder.path());
    for (const auto& [key, tensor] : load_safetensors(golden(name) / "merged.safetensors"))
      expect_trained_alike(saved.at(key), tensor, 1e-4, name + " merged " + key);
    const ModelPtr again = build_model({.model_name = folder.path().string()});
    again->eval();
    expect_close((*again)(inputs).logits()[0][-1], logits, 2e-5, name + " merged logits");
    merge_adapters(*model);
    EXPECT_FALSE(has_adapters(*model));
    expect_close((*model)(inputs).logits()[0][-1], (*again)(inputs).logits()[0][-1], 1e-6, name + " merged for good");
  }
}

TEST(Adapters, SavedFolderComesBackEqual) {
  for (const std::string name : kCases) {
    const ModelPtr model = base_model(name);
    load_adapter(*model, golden(name) / "start", {.trainable = true});
    train(*model, 2);
    const TemporaryDirectory folder;
    save_weights(*model, folder.path());
    EXPECT_FALSE(fs::exists(folder.path() / "model.safetensors"));
    const ModelPtr other = base_model(name);
    load_adapter(*other, folder.path());
    for (const auto& item : other->named_parameters()) EXPECT_FALSE(item.value().requires_grad()) << item.key();
    const StateDict first = adapter_state_dict(*model), second = adapter_state_dict(*other);
    EXPECT_EQ(first.names(), second.names());
    for (const auto& [key, tensor] : first) EXPECT_TRUE(at::equal(tensor, second.at(key))) << name << " " << key;
    // PEFT's own keys that matter, written as PEFT writes them.
    const Json ours = read_json_file(folder.path() / "adapter_config.json"),
               theirs = read_json_file(golden(name) / "start" / "adapter_config.json");
    for (const char* key :
         {"r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "fan_in_fan_out", "peft_type", "task_type",
          "modules_to_save", "rank_pattern", "alpha_pattern", "exclude_modules", "init_lora_weights", "use_dora"}) {
      EXPECT_EQ(ours[key], theirs[key]) << name << " " << key;
    }
  }
}

TEST(Adapters, TargetsFollowPeft) {
  const auto adapted = [](LoraConfig config) {
    const ModelPtr model = base_model("llama_all");
    add_lora(*model, std::move(config));
    std::vector<std::string> names;
    for (const LinearLayer& layer : linear_layers(*model)) {
      if (nn::lora_of(*layer.module) != nullptr) names.push_back(layer.name);
    }
    return names;
  };
  EXPECT_THAT(adapted({}), ElementsAre("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj",
                                       "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"));
  EXPECT_EQ(adapted({.targets = {.all_linear = true}}).size(), 14U);  // not the head
  EXPECT_THAT(adapted({.targets = {.names = {{"layers.1.mlp.up_proj", "lm_head"}}}}),
              ElementsAre("model.layers.1.mlp.up_proj", "lm_head"));
  EXPECT_THAT(adapted({.targets = {.pattern = ".*\\.0\\..*(q|o)_proj"}}),
              ElementsAre("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj"));
  EXPECT_THAT(adapted({.targets = {.names = {{"q_proj"}}}, .exclude = "(.*layers\\.0.*)"}),
              ElementsAre("model.layers.1.self_attn.q_proj"));
  EXPECT_THAT(error_of([&] { adapted({.targets = {.names = {{"q_porj"}}}}); }),
              HasSubstr("the model's are down_proj, gate_proj, k_proj"));
  EXPECT_THAT(error_of([&] { adapted({.targets = {.names = {{"self_attn"}}}}); }),
              HasSubstr("got 'model.layers.0.self_attn', a module of class"));
  EXPECT_THAT(error_of([&] { adapted({.modules_to_save = {"haed"}}); }), HasSubstr("got 'haed'"));
  EXPECT_THAT(error_of([] { add_lora(*base_model("llama_default"), {.modules_to_save = {"lm_head"}}); }),
              HasSubstr("embedding and head are tied"));
}

TEST(Adapters, CustomModelsNeedTargets) {
  auto model = make_model<SimpleModel>();
  EXPECT_THAT(error_of([&] { add_lora(*model, {}); }), HasSubstr("no usual choice for SimpleModel"));
  add_lora(*model, {.targets = {.all_linear = true}});
  EXPECT_THAT(adapter_state_dict(*model).names(),
              ElementsAre("base_model.model.fc1.lora_A.weight", "base_model.model.fc1.lora_B.weight"));
  const TemporaryDirectory folder;
  save_base_model(*model, folder.path(), AdapterSaving::kWithout);
  EXPECT_FALSE(load_weights(folder.path()).contains("fc1.lora_A.weight"));
  EXPECT_THAT(error_of([&] { add_lora(*model, {.targets = {.all_linear = true}}); }), HasSubstr("a model without adapters"));
}

TEST(Adapters, FoldersThatDoNotFitAreRefused) {
  const auto load = [](const std::string& base, const fs::path& folder) {
    return error_of([&] { load_adapter(*base_model(base), folder); });
  };
  EXPECT_THAT(load("llama_default", golden("gpt2_bias") / "start"), HasSubstr("the model has no linear layer of that name"));
  EXPECT_THAT(load("llama_default", golden("nowhere")), HasSubstr("the folder does not exist"));
  const TemporaryDirectory folder;
  fs::copy(golden("llama_default") / "start", folder.path(), fs::copy_options::recursive);
  const auto edited = [&](const char* key, const Json& value) {
    Json config = read_json_file(golden("llama_default") / "start" / "adapter_config.json");
    config[key] = value;
    write_file_atomically(folder.path() / "adapter_config.json", config.dump());
    return load("llama_default", folder.path());
  };
  EXPECT_THAT(edited("use_dora", true), HasSubstr("use_dora: is not built"));
  EXPECT_THAT(edited("peft_type", "IA3"), HasSubstr("expected \"LORA\", got \"IA3\""));
  EXPECT_THAT(edited("init_lora_weights", "pissa"), HasSubstr("changes the base weights"));
  EXPECT_THAT(edited("r", 5), HasSubstr("expected [5, 24], got [4, 24]"));
  EXPECT_THAT(edited("modules_to_save", Json{"lm_head"}), HasSubstr("tied"));
  EXPECT_EQ(edited("megatron_config", nullptr), "no error");
}

TEST(Adapters, InitialisationsThatAreNotBuiltSayWhichAre) {
  EXPECT_THAT(error_of([] { lora_config({.lora_init_weights = LoraWeightInitialization::kPisa}); }),
              HasSubstr("expected DEFAULT, GAUSSIAN or RANDOM, got PISA"));
  EXPECT_THAT(error_of([] { lora_config({.lora_target_parameters = {{"mlp.experts"}}}); }),
              HasSubstr("[peft.lora_target_parameters]"));
  EXPECT_TRUE(lora_config({.lora_target_modules = {{"All-Linear"}}}).targets.all_linear);
  EXPECT_EQ(lora_config({.lora_exclude_modules = {{".*vision.*", "x"}}}).exclude, "(.*vision.*)|(x)");
}

TEST(QuantizedModel, LinearsShrinkTheHeadStaysAndLoraTrains) {
  const ModelPtr model = base_model("llama_all");
  EXPECT_THAT(error_of([&] { quantize_model(*model, {.q_lora_bits = 8}); }), HasSubstr("8-bit base weights are not built"));
  EXPECT_EQ(quantize_model(*model,
                           {.bnb_4bit_quant_type = "nf4", .llm_int8_skip_modules = {{"o_proj"}}, .use_bnb_nested_quant = true}),
            12);
  std::set<std::string> dense;
  for (const auto& item : model->named_parameters()) {
    EXPECT_FALSE(item.value().requires_grad());
    if (item.value().dim() == 2) dense.insert(item.key());
  }
  EXPECT_THAT(dense, ElementsAre("lm_head.weight", "model.embed_tokens.weight", "model.layers.0.self_attn.o_proj.weight",
                                 "model.layers.1.self_attn.o_proj.weight"));
  add_lora(*model, {.targets = {.all_linear = true}});
  const std::vector<double> losses = train(*model, 8);
  EXPECT_LT(model->operator()(batch(0)).loss().item<double>(), losses.front());

  const TemporaryDirectory folder;
  save_base_model(*model, folder.path(), AdapterSaving::kMerged);
  model->eval();
  const ModelPtr merged = build_model({.model_name = folder.path().string()});
  merged->eval();
  const c10::AutoGradMode no_grad(false);
  expect_close((*merged)(batch(3)).logits(), (*model)(batch(3)).logits(), 1e-4, "merged");
}

}  // namespace
}  // namespace oumi
