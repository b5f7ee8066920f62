#include "oumi/models/qwen2/qwen2.h"

#include "oumi/models/decoder/causal_decoder.h"
#include "oumi/models/qwen2/qwen_window.h"

namespace oumi {
namespace {

struct Qwen2DecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

struct Qwen2ForCausalLM : CausalDecoder {
  using CausalDecoder::CausalDecoder;
};

DecoderConfig read_qwen2(const HfConfig& config) {
  DecoderConfig decoder = read_dense_config(
      config, {.vocab_size = 151936, .intermediate_size = 22016, .num_key_value_heads = 32, .max_position_embeddings = 32768});
  decoder.rotary = {read_rotary(config, decoder)};
  set_attention_bias(decoder, /*qkv=*/true, /*output=*/false);
  const QwenWindow window = read_qwen_window(config);
  read_layer_types(config, decoder, window.size,
                   [&](std::int64_t layer) { return window.size > 0 && layer >= window.first_layer; });
  return decoder;
}

}  // namespace

LanguageModelFamily qwen2_family() {
  return {.model_type = "qwen2", .architecture = "Qwen2ForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<Qwen2ForCausalLM>(read_qwen2(config), decoder_layer_factory<Qwen2DecoderLayerImpl>());
          }};
}

}  // namespace oumi
