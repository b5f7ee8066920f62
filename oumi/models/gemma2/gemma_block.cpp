#include "oumi/models/gemma2/gemma_block.h"

#include <cmath>

namespace oumi {

void apply_gemma_block(const HfConfig& config, DecoderConfig& decoder, const GemmaDefaults& defaults) {
  config.refuse("use_bidirectional_attention", "encoders are not built");
  config.raw("hidden_act");  // hub files say "gelu" here and mean hidden_activation
  decoder.embedding_scale = std::sqrt(static_cast<double>(decoder.dimensions.hidden_size));
  decoder.final_logit_soft_cap = config.nullable<double>("final_logit_softcapping", defaults.final_soft_cap).value_or(0);
  decoder.norm.unit_offset = true;
  const double soft_cap = config.nullable<double>("attn_logit_softcapping", defaults.attention_soft_cap).value_or(0);
  const double scale = 1.0 / std::sqrt(config.get<double>("query_pre_attn_scalar", 256));
  const bool attention_bias = config.get<bool>("attention_bias", false);
  set_attention_bias(decoder, attention_bias, attention_bias);
  for (nn::DecoderLayerConfig& layer : decoder.layers) {
    layer.norms = nn::NormPlacement::kBoth;
    layer.norm = layer.attention.norm = decoder.norm;
    layer.attention.core.scale = scale;
    layer.attention.core.soft_cap = soft_cap;
  }
}

}  // namespace oumi
