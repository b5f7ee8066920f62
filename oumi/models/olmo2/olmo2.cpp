#include "oumi/models/olmo2/olmo2.h"

#include "oumi/models/decoder/causal_decoder.h"
#include "oumi/models/olmo2/olmo_block.h"

namespace oumi {
namespace {

struct Olmo2DecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

struct Olmo2ForCausalLM : CausalDecoder {
  using CausalDecoder::CausalDecoder;
};

DecoderConfig read_olmo2(const HfConfig& config) {
  DecoderConfig decoder = read_olmo_block(config);
  decoder.rotary = {read_rotary(config, decoder)};
  return decoder;
}

}  // namespace

LanguageModelFamily olmo2_family() {
  return {.model_type = "olmo2", .architecture = "Olmo2ForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<Olmo2ForCausalLM>(read_olmo2(config), decoder_layer_factory<Olmo2DecoderLayerImpl>());
          }};
}

}  // namespace oumi
