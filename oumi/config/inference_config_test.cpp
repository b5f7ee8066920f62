#include "oumi/config/inference_config.h"

#include <fstream>

#include "oumi/base/files.h"
#include "oumi/config/test_support.h"

namespace oumi {
namespace {

using testing::HasSubstr;

class InferenceConfigTest : public testing::Test {
 protected:
  InferenceConfig load(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
    const std::filesystem::path path = folder_.path() / "infer.yaml";
    std::ofstream(path) << yaml;
    return load_inference_config({path}, overrides);
  }
  TemporaryDirectory folder_;
};

TEST_F(InferenceConfigTest, TakesOumisInferenceConfig) {
  const InferenceConfig config = load(R"(
model: {model_name: org/model, torch_dtype_str: bfloat16, chat_template: chat_ml}
generation: {max_new_tokens: 12, temperature: 0.5, stop_strings: [END], stop_token_ids: [3], use_cache: false}
engine: native
input_path: in.jsonl
)");
  EXPECT_EQ(config.run.model.model_name, "org/model");
  EXPECT_EQ(config.generation.max_new_tokens, 12);
  EXPECT_EQ(config.generation.temperature, 0.5);
  EXPECT_FALSE(config.generation.top_k);
  EXPECT_THAT(*config.generation.stop_strings, testing::ElementsAre("END"));
  EXPECT_EQ(config.input_path, "in.jsonl");
  EXPECT_FALSE(config.is_training_config);
}

TEST_F(InferenceConfigTest, TakesATrainingConfigAndOverrides) {
  const InferenceConfig config =
      load(std::string(kBase) + "training: {output_dir: out}\n",
           {"--generation.top_k", "5", "generation.seed=7", "--model.model_name=other", "--training.output_dir=elsewhere"});
  EXPECT_TRUE(config.is_training_config);
  EXPECT_TRUE(config.model_named_by_override);
  EXPECT_EQ(config.run.training.output_dir, "elsewhere");
  EXPECT_EQ(config.run.model.model_name, "other");
  EXPECT_EQ(config.generation.top_k, 5);
  EXPECT_EQ(config.generation.seed, 7);
}

TEST_F(InferenceConfigTest, NamesWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"generation: {max_new_token: 1}", "[generation.max_new_token] unknown key ("},
      {"generation: {max_new_tokens: 0}", "[generation.max_new_tokens] expected at least 1, got 0"},
      {"generation: {max_new_tokens: 1.5}", "[generation.max_new_tokens] expected int, got float 1.5"},
      {"generation: {temperature: -1}", "[generation.temperature] expected at least 0"},
      {"generation: {top_p: 0}", "[generation.top_p] expected above 0 and at most 1, got 0.0"},
      {"generation: {min_p: 2}", "[generation.min_p] expected from 0 to 1, got 2.0"},
      {"generation: {use_sampling: true, temperature: 0}",
       "[generation.temperature] expected above 0 with generation.use_sampling"},
      {"generation: {num_beams: 2}", "[generation.num_beams] expected 1"},
      {"generation: {stop_strings: ['']}", "[generation.stop_strings] expected texts that are not empty"},
      {"generation: {logit_bias: {x: 1}}", "[generation.logit_bias] expected token ids and numbers, got 'x': 1"},
      {"engine: ANTHROPIC", "[engine] expected a local engine"},
      {"modle: {}", "[modle] unknown key"},
      {"[1]", "expected sections such as model and generation"},
  };
  for (const auto& [yaml, expected] : cases) {
    EXPECT_THAT(user_error([&] { load(yaml); }), HasSubstr(expected)) << yaml;
  }
}

}  // namespace
}  // namespace oumi
