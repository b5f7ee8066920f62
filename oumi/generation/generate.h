// Token by token: prompts in, continuations out.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "oumi/generation/generation_options.h"
#include "oumi/models/language_model.h"

namespace oumi {

enum class StopReason { kStopToken, kLength, kCallback };

struct Continuation {
  std::vector<std::int32_t> ids;  // what was generated; ends with the stop token where one ended it
  StopReason reason = StopReason::kLength;
};

// Sees each token as it is chosen, stop tokens included. `sequence` counts the prompts. Return false to end that sequence.
using TokenCallback = std::function<bool(std::size_t sequence, std::int32_t token)>;

// Continues `prompts` (none empty) together, as transformers' generate does: prompts are padded on the left, which no token
// sees; a sequence ends at a stop token, at max_new_tokens, or where the model's context (max_position_embeddings) is full.
// Each sequence draws from random numbers of its own (seed, first_sequence + its number), so that sampling does not depend on
// the batch. Keys and values of all sequences are kept: 2 * layers * kv_heads * head_dim * tokens numbers each. Runs in
// evaluation mode without gradients and leaves the model's mode as it was. Throws UserError for an empty prompt, an id outside
// the vocabulary, and a prompt that fills the context.
std::vector<Continuation> generate(LanguageModel& model, std::span<const std::vector<std::int32_t>> prompts,
                                   const GenerationOptions& options, const TokenCallback& on_token = {},
                                   std::size_t first_sequence = 0);

}  // namespace oumi
