#include "oumi/models/phi3/phi3.h"

#include "oumi/models/decoder/causal_decoder.h"

namespace oumi {
namespace {

struct Phi3DecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

struct Phi3ForCausalLM : CausalDecoder {
  using CausalDecoder::CausalDecoder;
};

DecoderConfig read_phi3(const HfConfig& config) {
  DecoderConfig decoder = read_dense_config(config, {.vocab_size = 32064,
                                                     .hidden_size = 3072,
                                                     .intermediate_size = 8192,
                                                     .max_position_embeddings = 4096,
                                                     .rms_norm_eps = 1e-5,
                                                     .pad_token_id = 32000});
  decoder.rotary = {read_rotary(config, decoder, {.partial = true, .yarn_is_longrope = true, .default_original = 4096})};
  config.raw("embd_pdrop");  // Transformers reads it and has no such layer
  const double residual_dropout = config.get<double>("resid_pdrop", 0.0);
  const auto window = config.nullable<std::int64_t>("sliding_window", std::nullopt).value_or(0);
  for (nn::DecoderLayerConfig& layer : decoder.layers) {
    layer.residual_dropout = residual_dropout;
    layer.attention.fused_qkv = true;
    layer.attention.core.sliding_window = window;
    layer.mlp.fused_gate_up = true;
  }
  return decoder;
}

}  // namespace

LanguageModelFamily phi3_family() {
  return {.model_type = "phi3", .architecture = "Phi3ForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<Phi3ForCausalLM>(read_phi3(config), decoder_layer_factory<Phi3DecoderLayerImpl>());
          }};
}

}  // namespace oumi
