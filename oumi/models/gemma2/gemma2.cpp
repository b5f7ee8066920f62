#include "oumi/models/gemma2/gemma2.h"

#include "oumi/models/decoder/causal_decoder.h"
#include "oumi/models/gemma2/gemma_block.h"

namespace oumi {
namespace {

struct Gemma2DecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

struct Gemma2ForCausalLM : CausalDecoder {
  using CausalDecoder::CausalDecoder;
};

DecoderConfig read_gemma2(const HfConfig& config) {
  DecoderConfig decoder = read_dense_config(config, {.vocab_size = 256000,
                                                     .hidden_size = 2304,
                                                     .intermediate_size = 9216,
                                                     .num_hidden_layers = 26,
                                                     .num_attention_heads = 8,
                                                     .num_key_value_heads = 4,
                                                     .head_dim = 256,
                                                     .max_position_embeddings = 8192,
                                                     .tie_word_embeddings = true,
                                                     .activation_key = "hidden_activation",
                                                     .activation = "gelu_pytorch_tanh",
                                                     .pad_token_id = 0});
  apply_gemma_block(config, decoder, {.attention_soft_cap = 50.0, .final_soft_cap = 30.0});
  decoder.rotary = {read_rotary(config, decoder)};
  const auto window = config.nullable<std::int64_t>("sliding_window", 4096).value_or(0);
  read_layer_types(config, decoder, window, [](std::int64_t layer) { return layer % 2 == 0; });
  return decoder;
}

}  // namespace

LanguageModelFamily gemma2_family() {
  return {.model_type = "gemma2", .architecture = "Gemma2ForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<Gemma2ForCausalLM>(read_gemma2(config), decoder_layer_factory<Gemma2DecoderLayerImpl>());
          }};
}

}  // namespace oumi
