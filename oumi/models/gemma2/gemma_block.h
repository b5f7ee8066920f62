// What Gemma 2 and 3 share.
#pragma once

#include <optional>

#include "oumi/models/decoder/decoder_config.h"

namespace oumi {

struct GemmaDefaults {
  std::optional<double> attention_soft_cap{}, final_soft_cap{};
};

// Norms before and after each part that scale by 1 + weight, embeddings times sqrt(hidden_size), query_pre_attn_scalar, soft
// caps, attention_bias.
void apply_gemma_block(const HfConfig& config, DecoderConfig& decoder, const GemmaDefaults& defaults);

}  // namespace oumi
