// What OLMo 2 and 3 share.
#pragma once

#include "oumi/models/decoder/decoder_config.h"

namespace oumi {

// The shared keys and attention_bias; norms after each part and on all heads of q and k. Rotary is left to the family.
inline DecoderConfig read_olmo_block(const HfConfig& config) {
  DecoderConfig decoder = read_dense_config(config, {.vocab_size = 50304, .rms_norm_eps = 1e-5, .pad_token_id = 1});
  const bool attention_bias = config.get<bool>("attention_bias", false);
  set_attention_bias(decoder, attention_bias, attention_bias);
  for (nn::DecoderLayerConfig& layer : decoder.layers) {
    layer.norms = nn::NormPlacement::kAfter;
    layer.attention.qk_norm = nn::QkNorm::kAllHeads;
  }
  return decoder;
}

}  // namespace oumi
