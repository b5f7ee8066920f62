#include "oumi/trainer/language_evaluation.h"

#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <cmath>
#include <fstream>

#include "oumi/base/files.h"
#include "oumi/data/function_dataset.h"
#include "oumi/generation/test_support.h"
#include "oumi/models/build_model.h"
#include "oumi/text/test_support.h"

namespace oumi {
namespace {

using testing::HasSubstr;

LanguageModelPtr load(const std::string& family) {
  ModelParams params;
  params.model_name = (golden_generation_folder() / family).string();
  params.torch_dtype_str = "float32";
  return as_language_model(build_model(params));
}

std::map<std::string, double> as_map(const MetricValues& values) { return {values.begin(), values.end()}; }

Tensor matrix(const Json& rows) {
  std::vector<Tensor> tensors;
  for (const Json& row : rows) tensors.push_back(torch::tensor(row.get<std::vector<std::int64_t>>(), at::kLong));
  return at::stack(tensors);
}

TEST(LanguageEvaluation, MeasuresAsTransformers) {
  const Json& golden = golden_generation()["evaluation"];
  const LanguageModelPtr model = load(golden["model"]);
  std::vector<Batch> batches;
  for (const Json& batch : golden["batches"]) {
    Batch made;
    for (const char* name : {"input_ids", "attention_mask", "labels"}) made.set(name, matrix(batch[name]));
    batches.push_back(std::move(made));
  }
  // The loader only hands on: sample i is batch i.
  const auto dataset = std::make_shared<FunctionDataset>(
      static_cast<std::int64_t>(batches.size()), [](std::int64_t i) { return Sample{{"index", torch::tensor(i, at::kLong)}}; });
  DataLoaderOptions options = DataLoaderOptions::from_kwargs(Json{{"batch_size", 1}});
  options.collate_fn = [&](const std::vector<Sample>& samples) {
    return batches[static_cast<std::size_t>(samples[0].at("index").item<std::int64_t>())];
  };
  DataLoader loader(dataset, options);
  const auto values = as_map(evaluate_language_model(*model, loader));
  // float32 rounding of a mean over 36 tokens.
  EXPECT_NEAR(values.at("eval_loss"), golden["loss"].get<double>(), 2e-5);
  EXPECT_NEAR(values.at("eval_perplexity"), std::exp(golden["loss"].get<double>()), 2e-3);
  EXPECT_EQ(values.at("eval_accuracy"), golden["accuracy"].get<double>());
  EXPECT_EQ(values.at("eval_tokens"), golden["tokens"].get<double>());
}

TEST(MultipleChoice, ScoresAsTheHarness) {
  OUMI_NEEDS_BRIDGE();
  const Json& golden = golden_generation()["multiple_choice"];
  const LanguageModelPtr model = load(golden["model"]);
  const auto tokenizer = Tokenizer::load(golden_generation_folder() / "tokenizer");
  const TemporaryDirectory folder;
  std::ofstream out(folder.path() / "questions.jsonl");
  for (const Json& question : golden["questions"]) out << question.dump() << "\n\n";
  out.close();
  const std::vector<MultipleChoiceRow> rows = read_multiple_choice(folder.path() / "questions.jsonl");
  const std::vector<std::vector<double>> scores = score_multiple_choice(*model, *tokenizer, rows, 3);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < rows[i].choices.size(); ++j) {
      const double expected = golden["scores"][i][j];
      EXPECT_NEAR(scores[i][j], expected, 2e-6 * (1 + std::abs(expected)) * 10) << i << ' ' << j;
    }
  }
  for (const std::int64_t batch_size : {1, 64}) {
    const auto values = as_map(evaluate_multiple_choice(*model, *tokenizer, rows, batch_size));
    for (const char* name : {"acc", "acc_norm", "acc_bytes"})
      EXPECT_DOUBLE_EQ(values.at(name), golden[name].get<double>()) << name;
    EXPECT_DOUBLE_EQ(values.at("acc_norm_stderr"), std::sqrt(0.8 * 0.2 / 4));
  }
}

TEST(MultipleChoice, NamesTheLine) {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "q.jsonl";
  const auto error = [&](const std::string& text) {
    std::ofstream(path) << "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"gold\": \"c\"}\n" << text;
    try {
      read_multiple_choice(path);
    } catch (const UserError& thrown) {
      return describe(thrown);
    }
    return std::string("no error");
  };
  EXPECT_EQ(error(""), "no error");
  EXPECT_THAT(error("{"), HasSubstr("q.jsonl:2"));
  EXPECT_THAT(error("[]"), HasSubstr("key 'query' (or 'context'): expected str, got null"));
  EXPECT_THAT(error(R"({"query": "a", "choices": ["b"], "gold": 0})"), HasSubstr("expected at least two texts"));
  EXPECT_THAT(error(R"({"query": "a", "choices": ["b", ""], "gold": 0})"), HasSubstr("not empty"));
  EXPECT_THAT(error(R"({"query": "a", "choices": ["b", "c"], "gold": 2})"), HasSubstr("key 'gold': expected an index below 2"));
  EXPECT_THAT(error(R"({"query": "a", "choices": ["b", "c"]})"), HasSubstr("key 'gold'"));
}

}  // namespace
}  // namespace oumi
