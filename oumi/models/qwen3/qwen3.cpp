#include "oumi/models/qwen3/qwen3.h"

#include "oumi/models/decoder/causal_decoder.h"
#include "oumi/models/qwen2/qwen_window.h"

namespace oumi {
namespace {

struct Qwen3DecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

struct Qwen3ForCausalLM : CausalDecoder {
  using CausalDecoder::CausalDecoder;
};

DecoderConfig read_qwen3(const HfConfig& config) {
  DecoderConfig decoder = read_dense_config(config, {.vocab_size = 151936,
                                                     .intermediate_size = 22016,
                                                     .num_key_value_heads = 32,
                                                     .head_dim = 128,
                                                     .max_position_embeddings = 32768});
  decoder.rotary = {read_rotary(config, decoder)};
  const bool attention_bias = config.get<bool>("attention_bias", false);
  set_attention_bias(decoder, attention_bias, attention_bias);
  for (nn::DecoderLayerConfig& layer : decoder.layers) layer.attention.qk_norm = nn::QkNorm::kPerHead;
  const QwenWindow window = read_qwen_window(config);
  read_layer_types(config, decoder, window.size,
                   [&](std::int64_t layer) { return window.size > 0 && layer >= window.first_layer; });
  return decoder;
}

}  // namespace

LanguageModelFamily qwen3_family() {
  return {.model_type = "qwen3", .architecture = "Qwen3ForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<Qwen3ForCausalLM>(read_qwen3(config), decoder_layer_factory<Qwen3DecoderLayerImpl>());
          }};
}

}  // namespace oumi
