#include "oumi/models/mistral/mistral.h"

#include "oumi/models/decoder/causal_decoder.h"

namespace oumi {
namespace {

struct MistralDecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

struct MistralForCausalLM : CausalDecoder {
  using CausalDecoder::CausalDecoder;
};

DecoderConfig read_mistral(const HfConfig& config) {
  DecoderConfig decoder =
      read_dense_config(config, {.intermediate_size = 14336, .num_key_value_heads = 8, .max_position_embeddings = 4096 * 32});
  decoder.rotary = {read_rotary(config, decoder)};
  const auto window = config.nullable<std::int64_t>("sliding_window", 4096).value_or(0);
  for (nn::DecoderLayerConfig& layer : decoder.layers) layer.attention.core.sliding_window = window;
  return decoder;
}

}  // namespace

LanguageModelFamily mistral_family() {
  return {
      .model_type = "mistral", .architecture = "MistralForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
        return std::make_shared<MistralForCausalLM>(read_mistral(config), decoder_layer_factory<MistralDecoderLayerImpl>());
      }};
}

}  // namespace oumi
