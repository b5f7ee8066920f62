#include "oumi/generation/sampling.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/generation/test_support.h"

namespace oumi {
namespace {

SamplingOptions options_of(const Json& json) {
  SamplingOptions options{.do_sample = true, .top_k = 0};
  options.temperature = json.value("temperature", 1.0);
  options.top_k = json.value("top_k", 0);
  options.top_p = json.value("top_p", 1.0);
  options.min_p = json.value("min_p", 0.0);
  options.repetition_penalty = json.value("repetition_penalty", 1.0);
  return options;
}

TEST(Sampling, ProcessesScoresAsTransformers) {
  for (const Json& test : golden_generation()["processors"]) {
    std::vector<float> scores = test["scores"];
    const std::vector<std::int32_t> history = test["history"];
    process_scores(scores, {.prompt = std::span(history).first(2), .generated = std::span(history).subspan(2)},
                   options_of(test["options"]));
    const std::vector<double> probability = probabilities(scores);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const Json& expected = test["processed"][i];
      if (expected.is_null()) {
        EXPECT_TRUE(std::isinf(scores[i]) && scores[i] < 0) << test["options"] << " token " << i << ": " << scores[i];
      } else {
        // One division and one multiplication in float32.
        EXPECT_NEAR(scores[i], expected.get<double>(), 4e-7 * (1 + std::abs(expected.get<double>())))
            << test["options"] << " token " << i;
      }
      EXPECT_NEAR(probability[i], test["probabilities"][i].get<double>(), 1e-5) << test["options"] << " token " << i;
    }
  }
}

TEST(Sampling, GreedyKnowsPenaltiesAlone) {
  std::vector<float> scores = {1, 4, 3, -2};
  process_scores(scores, {}, {.do_sample = false, .temperature = 0.5, .top_k = 1});
  EXPECT_THAT(scores, testing::ElementsAre(1, 4, 3, -2));
  const std::vector<std::int32_t> prompt = {1, 1, 3}, generated = {2, 2};
  process_scores(
      scores, {prompt, generated},
      {.repetition_penalty = 2, .frequency_penalty = 0.25, .presence_penalty = 0.125, .logit_bias = {{0, 5.0}, {99, 1.0}}});
  EXPECT_THAT(scores, testing::ElementsAre(6, 2, 1.5f - 0.625f, -4));
  EXPECT_EQ(best_token(scores), 0);
}

TEST(Sampling, DrawsFromTheDistribution) {
  std::vector<float> scores = {0.0f, std::log(2.0f), std::log(5.0f), -std::numeric_limits<float>::infinity()};
  std::mt19937_64 random(3);
  std::vector<int> counts(4);
  constexpr int kDraws = 80000;
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(sample_token(scores, random))];
  // Five standard deviations of a binomial count.
  for (const auto& [token, share] : {std::pair{0, 0.125}, {1, 0.25}, {2, 0.625}}) {
    EXPECT_NEAR(counts[static_cast<std::size_t>(token)], kDraws * share, 5 * std::sqrt(kDraws * share * (1 - share)));
  }
  EXPECT_EQ(counts[3], 0);
}

TEST(Sampling, RefusesScoresThatAreNoNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(best_token(std::vector<float>{nan, 1, 1, nan}), 1);
  EXPECT_THROW(best_token(std::vector<float>{nan, nan}), UserError);
  std::mt19937_64 random;
  EXPECT_THROW(sample_token(std::vector<float>{nan}, random), UserError);
}

}  // namespace
}  // namespace oumi
