#include "oumi/generation/generate.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include "oumi/generation/growing_kv_cache.h"
#include "oumi/generation/test_support.h"
#include "oumi/models/build_model.h"

namespace oumi {
namespace {

using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

LanguageModelPtr load(const std::string& family) {
  ModelParams params;
  params.model_name = (golden_generation_folder() / family).string();
  params.torch_dtype_str = "float32";
  return as_language_model(build_model(params));
}

std::vector<Ids> prompts() { return golden_generation()["prompts"]; }

GenerationOptions greedy() {
  GenerationOptions options;
  options.max_new_tokens = golden_generation()["max_new_tokens"];
  return options;
}

std::vector<Ids> ids_of(const std::vector<Continuation>& continuations) {
  std::vector<Ids> ids;
  for (const Continuation& continuation : continuations) ids.push_back(continuation.ids);
  return ids;
}

TEST(Generate, ContinuesAsTransformers) {
  for (const Json& golden : golden_generation()["models"]) {
    const std::string family = golden["model"];
    SCOPED_TRACE(family);
    const LanguageModelPtr model = load(family);
    ASSERT_NE(model, nullptr);
    model->train();
    // Together, padded, and one by one.
    EXPECT_EQ(ids_of(generate(*model, prompts(), greedy())), golden["greedy"].get<std::vector<Ids>>());
    EXPECT_TRUE(model->is_training());
    const Ids second = prompts()[1];
    EXPECT_EQ(generate(*model, std::vector<Ids>{second}, greedy())[0].ids, golden["greedy"][1].get<Ids>());
    GenerationOptions penalized = greedy();
    penalized.sampling.repetition_penalty = 1.3;
    EXPECT_EQ(ids_of(generate(*model, prompts(), penalized)), golden["repetition_penalty_1.3"].get<std::vector<Ids>>());
    // Sequences that end early leave the batch.
    GenerationOptions stopping = greedy();
    stopping.stop_token_ids = golden["stop_token_ids"].get<Ids>();
    EXPECT_EQ(ids_of(generate(*model, prompts(), stopping)), golden["stopped"].get<std::vector<Ids>>());
  }
}

TEST(Generate, SamplesTheSameWhateverTheBatch) {
  const LanguageModelPtr model = load("qwen2");
  GenerationOptions options = greedy();
  options.sampling = {.do_sample = true, .temperature = 1.2, .top_k = 20};
  options.seed = 5;
  const std::vector<Ids> together = ids_of(generate(*model, prompts(), options));
  const std::vector<Ids> all = prompts();
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(generate(*model, std::span(all).subspan(i, 1), options, {}, i)[0].ids, together[i]) << i;
  }
  options.seed = 6;
  EXPECT_NE(ids_of(generate(*model, prompts(), options)), together);
}

TEST(Generate, StopsWhereItIsTold) {
  const LanguageModelPtr model = load("gpt2");
  const std::vector<Continuation> results =
      generate(*model, prompts(), greedy(), [](std::size_t sequence, std::int32_t) { return sequence != 1; });
  EXPECT_EQ(results[1].ids.size(), 1u);
  EXPECT_EQ(results[1].reason, StopReason::kCallback);
  EXPECT_EQ(results[0].reason, StopReason::kLength);
  EXPECT_EQ(results[0].ids.size(), 24u);
  // The context of 64 tokens ends it.
  GenerationOptions options = greedy();
  options.max_new_tokens = 1000;
  EXPECT_EQ(generate(*model, prompts(), options)[1].ids.size(), 64 - prompts()[1].size());
}

TEST(Generate, RefusesBadPrompts) {
  const LanguageModelPtr model = load("gpt2");
  const auto error = [&](const Ids& prompt) {
    try {
      generate(*model, std::vector<Ids>{prompt}, greedy(), {}, 7);
    } catch (const UserError& thrown) {
      return describe(thrown);
    }
    return std::string("no error");
  };
  EXPECT_THAT(error({}), HasSubstr("[prompt 7] expected at least one token"));
  EXPECT_THAT(error({1, 96}), HasSubstr("token 96 is not in the model's vocabulary of 96"));
  EXPECT_THAT(error(Ids(64, 1)),
              HasSubstr("context overflow: expected fewer than max_position_embeddings = 64 tokens, got 64"));
}

TEST(GrowingKvCache, KeepsWhatWasAppended) {
  GrowingKvCache cache(2);
  const Tensor all = at::rand({3, 9, 2, 4});
  std::int64_t done = 0;
  for (const std::int64_t count : {1, 4, 1, 3}) {
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      const Tensor part = all.narrow(1, done, count);
      const auto [key, value] = cache.append(layer, part + layer, part * 2);
      EXPECT_EQ(cache.length(), done);
      EXPECT_TRUE(at::equal(key, all.narrow(1, 0, done + count) + layer));
      EXPECT_TRUE(at::equal(value, all.narrow(1, 0, done + count) * 2));
    }
    cache.advance(count);
    done += count;
  }
  cache.keep_rows(at::tensor({2, 0}, at::kLong));
  cache.truncate(5);
  const Tensor next = at::rand({2, 1, 2, 4});
  const auto [key, value] = cache.append(1, next, next);
  EXPECT_TRUE(at::equal(key.narrow(1, 0, 5), (all + 1).index_select(0, at::tensor({2, 0}, at::kLong)).narrow(1, 0, 5)));
  EXPECT_TRUE(at::equal(key.narrow(1, 5, 1), next));
}

TEST(GenerationOptions, ComeFromTheModelsFiles) {
  const Json file = {{"do_sample", true}, {"temperature", 0.6}, {"top_p", 0.9}, {"eos_token_id", {9, 3}}, {"top_k", nullptr}};
  GenerationOptions options = generation_options({}, file, {}, 7);
  EXPECT_TRUE(options.sampling.do_sample);
  EXPECT_EQ(options.sampling.temperature, 0.6);
  EXPECT_EQ(options.sampling.top_p, 0.9);
  EXPECT_EQ(options.sampling.top_k, 50);
  EXPECT_EQ(options.max_new_tokens, 1024);
  EXPECT_THAT(options.stop_token_ids, testing::ElementsAre(3, 7, 9));
  // Settings win.
  GenerationParams params;
  params.temperature = 0;
  params.top_k = 0;
  params.max_new_tokens = 3;
  params.stop_token_ids = {{4}};
  params.logit_bias = {{"12", 2.5}};
  options = generation_options(params, file, {}, -1);
  EXPECT_FALSE(options.sampling.do_sample);
  EXPECT_EQ(options.sampling.top_k, 0);
  EXPECT_EQ(options.max_new_tokens, 3);
  EXPECT_EQ(options.sampling.logit_bias.at(12), 2.5);
  EXPECT_THAT(options.stop_token_ids, testing::ElementsAre(3, 4, 9));
  params = {};
  params.temperature = 0.7;
  EXPECT_TRUE(generation_options(params, nullptr, {}, -1).sampling.do_sample);
  params.use_sampling = false;
  EXPECT_FALSE(generation_options(params, nullptr, {}, -1).sampling.do_sample);
  // Old models keep them in config.json; without anything it is greedy.
  EXPECT_THAT(generation_options({}, nullptr, {{"eos_token_id", 2}}, -1).stop_token_ids, testing::ElementsAre(2));
  EXPECT_FALSE(generation_options({}, nullptr, {}, -1).sampling.do_sample);
  EXPECT_THROW(generation_options({}, {{"temperature", "hot"}}, {}, -1), UserError);
  EXPECT_THROW(generation_options({}, {{"eos_token_id", "x"}}, {}, -1), UserError);
}

}  // namespace
}  // namespace oumi
