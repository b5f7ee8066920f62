// From a model's scores to the next token: Hugging Face's processors in its order, on plain arrays.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <vector>

namespace oumi {

struct SamplingOptions {
  bool do_sample = false;           // false: the token with the highest score
  double temperature = 1.0;         // divides the scores
  std::int64_t top_k = 50;          // keep the k highest (and what equals the k-th); 0: all
  double top_p = 1.0;               // keep the smallest set whose probabilities reach p
  double min_p = 0.0;               // keep what has at least min_p of the highest probability
  double repetition_penalty = 1.0;  // above 1: tokens that were there score lower (Keskar et al. 2019, arXiv:1909.05858)
  double frequency_penalty = 0.0;   // taken off once for each time a token was generated (OpenAI's meaning)
  double presence_penalty = 0.0;    // taken off when a token was generated
  std::map<std::int32_t, double> logit_bias = {};
};

// What a sequence holds: its prompt, and what was generated for it.
struct TokenHistory {
  std::span<const std::int32_t> prompt = {}, generated = {};
};

// Changes `scores` [vocab] (raw logits) as transformers' processors do: biases and penalties, and with do_sample temperature,
// top_k, top_p, min_p, in this order. What is ruled out becomes -infinity; the best token never is. `greedy` needs the first
// part alone.
void process_scores(std::span<float> scores, const TokenHistory& history, const SamplingOptions& options);

// Index of the highest score, the first of equals, as torch.argmax. Throws UserError when there is none: all are NaN or
// -infinity.
std::int32_t best_token(std::span<const float> scores);

// softmax of `scores`, in float64. -infinity gives 0.
std::vector<double> probabilities(std::span<const float> scores);

// Draws from softmax(scores), by one number of `random`: the same on every machine.
std::int32_t sample_token(std::span<const float> scores, std::mt19937_64& random);

}  // namespace oumi
