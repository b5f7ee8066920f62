#include "oumi/models/llama/llama.h"

#include "oumi/models/decoder/causal_decoder.h"

namespace oumi {
namespace {

struct LlamaDecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

struct LlamaForCausalLM : CausalDecoder {
  using CausalDecoder::CausalDecoder;
};

DecoderConfig read_llama(const HfConfig& config) {
  DecoderConfig decoder = read_dense_config(config, {});
  decoder.rotary = {read_rotary(config, decoder)};
  const bool attention_bias = config.get<bool>("attention_bias", false);
  set_attention_bias(decoder, attention_bias, attention_bias);
  const bool mlp_bias = config.get<bool>("mlp_bias", false);
  for (nn::DecoderLayerConfig& layer : decoder.layers) layer.mlp.bias = mlp_bias;
  return decoder;
}

}  // namespace

LanguageModelFamily llama_family() {
  return {.model_type = "llama", .architecture = "LlamaForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<LlamaForCausalLM>(read_llama(config), decoder_layer_factory<LlamaDecoderLayerImpl>());
          }};
}

}  // namespace oumi
