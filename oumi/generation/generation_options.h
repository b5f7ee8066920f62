// What steers a generation, and where its defaults come from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/config/inference_config.h"
#include "oumi/generation/sampling.h"

namespace oumi {

struct GenerationOptions {
  SamplingOptions sampling;
  std::int64_t max_new_tokens = 1024;
  std::vector<std::int32_t> stop_token_ids;  // sorted; the token that stops is not part of the result's text
  std::uint64_t seed = 0;
  std::int64_t batch_size = 1;  // sequences decoded together
};

// The model's generation_config.json (or, where there is none, what older models keep in config.json), with `params` winning
// where they are set. Stop tokens are those of the model, `eos` of the tokenizer where it has one (-1: none), and
// params.stop_token_ids. Throws UserError naming generation.<key> or generation_config.json.
GenerationOptions generation_options(const GenerationParams& params, const Json& generation_config, const Json& model_config,
                                     std::int32_t eos);

}  // namespace oumi
