// What language models do beside the mathematics: configs, initial values, the loss's edges, files that do not fit.
#include <ATen/Functions.h>
#include <gmock/gmock.h>

#include <cstdlib>

#include "oumi/base/files.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/build_model.h"
#include "oumi/models/language_models.h"
#include "oumi/models/state.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const Json kTiny = {
    {"vocab_size", 50},         {"hidden_size", 32},        {"intermediate_size", 48},       {"num_hidden_layers", 2},
    {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"max_position_embeddings", 64}, {"pad_token_id", nullptr}};

template <class F>
std::string error_text(F&& f) {
  try {
    f();
  } catch (const UserError& error) {
    return describe(error);
  }
  return "no error";
}

fs::path golden_family(const std::string& name) {
  const char* root = std::getenv("OUMI_SOURCE_DIR");
  return fs::path(root != nullptr ? root : ".") / "tests/golden/families" / name;
}

ModelPtr build(const std::string& name, Json kwargs, bool load = false) {
  return build_model({.model_name = name, .load_pretrained_weights = load, .model_kwargs = std::move(kwargs)});
}

TEST(LanguageModel, StartsWithHuggingFacesValues) {
  at::manual_seed(1);
  Json config = kTiny;
  config["pad_token_id"] = 7;
  config["attention_bias"] = true;
  config["initializer_range"] = 0.05;
  const ModelPtr model = build("llama", config);
  const StateDict state = state_dict(*model);
  EXPECT_EQ(state.names().front(), "model.embed_tokens.weight");
  EXPECT_EQ(state.names().back(), "lm_head.weight");
  for (const auto& [name, tensor] : state) {
    if (name.ends_with("norm.weight")) {
      EXPECT_TRUE(at::equal(tensor, at::ones_like(tensor))) << name;
    } else if (name.ends_with(".bias")) {
      EXPECT_TRUE(at::equal(tensor, at::zeros_like(tensor))) << name;
    } else {
      EXPECT_NEAR(tensor.std().item<double>(), 0.05, 0.008) << name;
    }
  }
  EXPECT_EQ(state.at("model.embed_tokens.weight")[7].abs().max().item<double>(), 0);
}

TEST(LanguageModel, Gpt2ScalesResidualProjections) {
  const ModelPtr model = build("gpt2", {{"vocab_size", 50}, {"n_embd", 32}, {"n_layer", 8}, {"n_head", 4}});
  const StateDict state = state_dict(*model);
  EXPECT_NEAR(state.at("transformer.h.0.mlp.c_fc.weight").std().item<double>(), 0.02, 0.002);
  EXPECT_NEAR(state.at("transformer.h.0.mlp.c_proj.weight").std().item<double>(), 0.005, 0.0005);
  EXPECT_FALSE(state.contains("lm_head.weight"));
}

TEST(LanguageModel, BlocksAreKnownByTheFamilysNames) {
  const std::map<std::string, std::string> blocks = {
      {"llama", "LlamaDecoderLayer"}, {"qwen3_moe", "Qwen3MoeDecoderLayer"}, {"gemma2", "Gemma2DecoderLayer"}};
  for (const auto& [family, block] : blocks) {
    const ModelPtr model = build(family, kTiny);
    int found = 0;
    for (const auto& part : model->modules()) {
      auto& module = *part;
      found += class_name(typeid(module)) == block;
    }
    EXPECT_EQ(found, 2) << family;
  }
}

TEST(LanguageModel, FreezesByHuggingFacesNames) {
  const ModelPtr model = build_model(
      {.model_name = "llama", .load_pretrained_weights = false, .model_kwargs = kTiny, .freeze_layers = {"model.layers.0"}});
  for (const auto& item : model->named_parameters())
    EXPECT_EQ(item.value().requires_grad(), !item.key().starts_with("model.layers.0.")) << item.key();
}

TEST(LanguageModel, NoLabelThatCountsGivesZeroWithAGraph) {
  const ModelPtr model = build("llama", kTiny);
  const Tensor ids = at::ones({2, 5}, at::kLong);
  const Outputs outputs = (*model)(Batch{{"input_ids", ids}, {"labels", at::full_like(ids, -100)}});
  EXPECT_EQ(outputs.loss().item<double>(), 0);
  outputs.loss().backward();
}

TEST(LanguageModel, DropoutActsInTrainingOnly) {
  const ModelPtr model =
      build("gpt2", {{"vocab_size", 50}, {"n_embd", 32}, {"n_layer", 2}, {"n_head", 4}, {"attn_pdrop", 0.5}});
  const Batch batch{{"input_ids", at::arange(12).view({2, 6})}};
  const c10::AutoGradMode no_grad(false);
  model->eval();
  EXPECT_TRUE(at::equal((*model)(batch).logits(), (*model)(batch).logits()));
  model->train();
  EXPECT_FALSE(at::equal((*model)(batch).logits(), (*model)(batch).logits()));
}

TEST(LanguageModel, KeepsTheCheckpointsDtype) {
  const LanguageModelPtr model = load_language_model(golden_family("llama_yarn"));
  model->to(at::kBFloat16);
  const TemporaryDirectory saved;
  model->save_pretrained(saved.path());
  EXPECT_EQ(read_json_file(saved.path() / "config.json")["torch_dtype"], "bfloat16");
  EXPECT_EQ(build(saved.path().string(), {}, true)->parameters().front().scalar_type(), at::kBFloat16);
  const ModelPtr wide = build_model({.model_name = saved.path().string(), .torch_dtype_str = "float32"});
  EXPECT_EQ(wide->parameters().front().scalar_type(), at::kFloat);
}

TEST(LanguageModel, ShapesAloneNeedNoMemory) {
  const LanguageModelPtr model = make_language_model(
      {{"model_type", "llama"}, {"num_hidden_layers", 80}, {"hidden_size", 8192}}, {.device = at::kMeta}, "test");
  std::int64_t parameters = 0;
  for (const Tensor& parameter : model->parameters()) parameters += parameter.numel();
  EXPECT_GT(parameters, 30'000'000'000);
}

TEST(LanguageModel, AnUnknownKeyIsNamed) {
  EXPECT_THAT(error_text([] { build("llama", {{"hiden_size", 32}}); }), HasSubstr("[model.model_kwargs.hiden_size]"));
  EXPECT_THAT(error_text([] { build("llama", {{"hiden_size", 32}}); }), HasSubstr("did you mean 'hidden_size'?"));
  const std::string text = error_text(
      [] { make_language_model({{"model_type", "llama"}, {"multi_query", true}}, {.device = at::kMeta}, "x/config.json"); });
  EXPECT_THAT(text, HasSubstr("[x/config.json:multi_query]"));
  EXPECT_THAT(text, HasSubstr("model.model_kwargs: {multi_query: null} leaves it out"));
}

TEST(LanguageModel, WhatIsNotBuiltIsRefused) {
  const auto error = [](Json config) {
    return error_text([&] { make_language_model(config, {.device = at::kMeta}, "config.json"); });
  };
  EXPECT_THAT(error({{"model_type", "mamba"}}), HasSubstr("unknown model family 'mamba'"));
  EXPECT_THAT(error({{"model_type", "mamba"}}), HasSubstr("llama (LlamaForCausalLM)"));
  EXPECT_THAT(error({{"model_type", "llama"}, {"architectures", {"LlamaForSequenceClassification"}}}),
              HasSubstr("expected LlamaForCausalLM"));
  EXPECT_THAT(error({{"model_type", "llama"}, {"quantization_config", {{"bits", 4}}}}),
              HasSubstr("quantised checkpoints are not read"));
  EXPECT_THAT(error({{"model_type", "llama"}, {"rope_scaling", {{"rope_type", "spiral"}}}}),
              HasSubstr("unknown kind 'spiral'"));
  EXPECT_THAT(error({{"model_type", "llama"}, {"hidden_act", "snake"}}), HasSubstr("unknown activation 'snake'"));
  EXPECT_THAT(error({{"model_type", "llama"}, {"num_key_value_heads", 5}}),
              HasSubstr("expected a divisor of num_attention_heads (32), got 5"));
  EXPECT_THAT(error({{"model_type", "qwen3_moe"}, {"output_router_logits", true}}), HasSubstr("output_router_logits"));
  EXPECT_THAT(error_text([] { build("llamma", {}, true); }), HasSubstr("did you mean 'llama'?"));
  EXPECT_THAT(error_text([] { build("llama", {}, true); }), HasSubstr("load_pretrained_weights: false"));
}

TEST(LanguageModel, WeightsThatDoNotFitAreNamed) {
  EXPECT_THAT(error_text([] { load_language_model(golden_family("qwen3"), {.overrides = {{"intermediate_size", 24}}}); }),
              HasSubstr("expected shape"));
  EXPECT_THAT(error_text([] {
                load_language_model(golden_family("qwen3"),
                                    {.overrides = {{"num_hidden_layers", 3}, {"layer_types", nullptr}}});
              }),
              HasSubstr("missing: model.layers.2."));
  EXPECT_THAT(error_text([] {
                load_language_model(golden_family("qwen3"),
                                    {.overrides = {{"num_hidden_layers", 1}, {"layer_types", nullptr}}});
              }),
              HasSubstr("unexpected: model.layers.1."));
  EXPECT_THAT(error_text([] { load_language_model(golden_family("qwen3"), {.overrides = {{"tie_word_embeddings", true}}}); }),
              HasSubstr("tie_word_embeddings"));
}

TEST(LanguageModel, BadBatchesAreNamed) {
  const ModelPtr model = build("llama", kTiny);
  const Tensor ids = at::ones({2, 5}, at::kLong);
  EXPECT_THAT(error_text([&] { (*model)(Batch{{"images", ids}}); }), HasSubstr("expected 'input_ids', got [images]"));
  EXPECT_THAT(error_text([&] { (*model)(Batch{{"input_ids", ids * 50}}); }), HasSubstr("expected ids in [0, 50), got 50"));
  EXPECT_THAT(error_text([&] { (*model)(Batch{{"input_ids", ids}, {"attention_mask", at::ones({2, 4})}}); }),
              HasSubstr("attention_mask: expected [batch, 5]"));
  EXPECT_THAT(error_text([&] { (*model)(Batch{{"input_ids", ids}, {"labels", at::ones({2, 4}, at::kLong)}}); }),
              HasSubstr("labels: expected [2, 5]"));
}

}  // namespace
}  // namespace oumi
