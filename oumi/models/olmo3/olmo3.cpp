#include "oumi/models/olmo3/olmo3.h"

#include "oumi/models/decoder/causal_decoder.h"
#include "oumi/models/olmo2/olmo_block.h"

namespace oumi {
namespace {

struct Olmo3DecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

struct Olmo3ForCausalLM : CausalDecoder {
  using CausalDecoder::CausalDecoder;
};

DecoderConfig read_olmo3(const HfConfig& config) {
  DecoderConfig decoder = read_olmo_block(config);
  const auto window = config.nullable<std::int64_t>("sliding_window", 4096).value_or(0);
  const auto types = read_layer_types(config, decoder, window, [](std::int64_t layer) { return (layer + 1) % 4 != 0; });
  decoder.rotary = {
      read_rotary(config, decoder, {.layer_type = "full_attention", .default_theta = 500000}),
      read_rotary(config, decoder, {.layer_type = "sliding_attention", .default_theta = 500000, .scaled = false})};
  for (std::size_t i = 0; i < decoder.layers.size(); ++i)
    decoder.layers[i].attention.rotary = types[i] == "sliding_attention" ? 1 : 0;
  return decoder;
}

}  // namespace

LanguageModelFamily olmo3_family() {
  return {.model_type = "olmo3", .architecture = "Olmo3ForCausalLM", .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<Olmo3ForCausalLM>(read_olmo3(config), decoder_layer_factory<Olmo3DecoderLayerImpl>());
          }};
}

}  // namespace oumi
