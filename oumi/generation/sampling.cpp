#include "oumi/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

void penalize(std::span<float> scores, const TokenHistory& history, const SamplingOptions& options) {
  const auto in_range = [&](std::int32_t id) { return id >= 0 && static_cast<std::size_t>(id) < scores.size(); };
  for (const auto& [id, bias] : options.logit_bias) {
    if (in_range(id)) scores[static_cast<std::size_t>(id)] += static_cast<float>(bias);
  }
  if (options.repetition_penalty != 1.0) {
    std::vector<bool> done(scores.size(), false);  // once, however often a token occurs
    const auto penalty = static_cast<float>(options.repetition_penalty);
    for (const std::span<const std::int32_t> ids : {history.prompt, history.generated}) {
      for (const std::int32_t id : ids) {
        const auto i = static_cast<std::size_t>(id);
        if (!in_range(id) || done[i]) continue;
        done[i] = true;
        scores[i] = scores[i] < 0 ? scores[i] * penalty : scores[i] / penalty;
      }
    }
  }
  if (options.frequency_penalty != 0 || options.presence_penalty != 0) {
    std::map<std::int32_t, int> counts;
    for (const std::int32_t id : history.generated) ++counts[id];
    for (const auto& [id, count] : counts) {
      if (in_range(id))
        scores[static_cast<std::size_t>(id)] -=
            static_cast<float>(options.frequency_penalty * count + options.presence_penalty);
    }
  }
}

void keep_top_k(std::span<float> scores, std::int64_t top_k) {
  if (top_k <= 0 || static_cast<std::size_t>(top_k) >= scores.size()) return;
  std::vector<float> sorted(scores.begin(), scores.end());
  const auto kth = sorted.begin() + (top_k - 1);
  std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
  for (float& score : scores) {
    if (score < *kth) score = kOut;
  }
}

// Tokens from the least likely up are ruled out as long as their probabilities together stay within 1 - p; the likeliest stays.
void keep_top_p(std::span<float> scores, double top_p) {
  if (top_p >= 1.0) return;
  const std::vector<double> probability = probabilities(scores);
  std::vector<std::int32_t> order;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (probability[i] > 0) order.push_back(static_cast<std::int32_t>(i));
  }
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return scores[static_cast<std::size_t>(a)] < scores[static_cast<std::size_t>(b)];
  });
  double sum = 0;
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    const auto token = static_cast<std::size_t>(order[i]);
    sum += probability[token];
    if (sum > 1.0 - top_p) break;
    scores[token] = kOut;
  }
}

void keep_min_p(std::span<float> scores, double min_p) {
  if (min_p <= 0) return;
  const float highest = *std::max_element(scores.begin(), scores.end());
  // p >= min_p * p_max, in terms of the scores.
  const double lowest = static_cast<double>(highest) + std::log(min_p);
  for (float& score : scores) {
    if (score < lowest && score < highest) score = kOut;
  }
}

}  // namespace

void process_scores(std::span<float> scores, const TokenHistory& history, const SamplingOptions& options) {
  penalize(scores, history, options);
  if (!options.do_sample) return;
  if (options.temperature != 1.0) {
    const auto temperature = static_cast<float>(options.temperature);
    for (float& score : scores) score /= temperature;
  }
  keep_top_k(scores, options.top_k);
  keep_top_p(scores, options.top_p);
  keep_min_p(scores, options.min_p);
}

std::int32_t best_token(std::span<const float> scores) {
  std::size_t best = scores.size();
  float highest = kOut;
  constexpr std::size_t kBlock = 64;  // scores that are compared as vectors, to skip most of them
  for (std::size_t begin = 0; begin < scores.size(); begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, scores.size());
    bool higher = false;
    for (std::size_t i = begin; i < end; ++i) higher |= scores[i] > highest;
    for (std::size_t i = begin; higher && i < end; ++i) {
      if (scores[i] > highest) highest = scores[best = i];
    }
  }
  if (best == scores.size()) {
    throw UserError("generation", cat("expected scores for the next token, got none that is a number among ", scores.size()),
                    "the weights may be damaged: oumi-cpp checkpoint verify, or check how they were trained");
  }
  return static_cast<std::int32_t>(best);
}

std::vector<double> probabilities(std::span<const float> scores) {
  const double highest = scores[static_cast<std::size_t>(best_token(scores))];
  std::vector<double> result(scores.size());
  double sum = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    result[i] = std::isnan(scores[i]) ? 0.0 : std::exp(static_cast<double>(scores[i]) - highest);
    sum += result[i];
  }
  for (double& value : result) value /= sum;
  return result;
}

std::int32_t sample_token(std::span<const float> scores, std::mt19937_64& random) {
  const std::vector<double> probability = probabilities(scores);
  // 53 bits: std::uniform_real_distribution is free to differ between libraries.
  const double drawn = static_cast<double>(random() >> 11) * 0x1.0p-53;
  double sum = 0;
  std::int32_t last = 0;
  for (std::size_t i = 0; i < probability.size(); ++i) {
    if (probability[i] <= 0) continue;
    sum += probability[i];
    last = static_cast<std::int32_t>(i);
    if (drawn < sum) break;
  }
  return last;
}

}  // namespace oumi
