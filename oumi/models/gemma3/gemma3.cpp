#include "oumi/models/gemma3/gemma3.h"

#include "oumi/models/decoder/causal_decoder.h"
#include "oumi/models/gemma2/gemma_block.h"

namespace oumi {
namespace {

struct Gemma3DecoderLayerImpl : nn::DecoderLayerImpl {
  using DecoderLayerImpl::DecoderLayerImpl;
};

class Gemma3ForCausalLM : public CausalDecoder {
 public:
  using CausalDecoder::CausalDecoder;

  // The text part of multimodal files: "language_model.model.X" (Transformers 4), "model.language_model.X" (5), beside towers
  // that are left out.
  StateDict from_hf_state_dict(const StateDict& weights, const std::string& origin) const override {
    StateDict text;
    for (const auto& [full, tensor] : weights) {
      std::string name = full;
      if (name.starts_with("language_model.")) name.erase(0, 15);
      if (name.starts_with("model.language_model.")) name.erase(6, 15);
      const bool other = name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.") ||
                         name.starts_with("model.vision_tower.") || name.starts_with("model.multi_modal_projector.");
      if (!other) text.set(name, tensor);
    }
    return CausalDecoder::from_hf_state_dict(text, origin);
  }
};

DecoderConfig read_gemma3(const HfConfig& config) {
  DecoderConfig decoder = read_dense_config(config, {.vocab_size = 262208,
                                                     .hidden_size = 2304,
                                                     .intermediate_size = 9216,
                                                     .num_hidden_layers = 26,
                                                     .num_attention_heads = 8,
                                                     .num_key_value_heads = 4,
                                                     .head_dim = 256,
                                                     .max_position_embeddings = 131072,
                                                     .tie_word_embeddings = true,
                                                     .activation_key = "hidden_activation",
                                                     .activation = "gelu_pytorch_tanh",
                                                     .pad_token_id = 0});
  apply_gemma_block(config, decoder, {});
  const auto window = config.nullable<std::int64_t>("sliding_window", 4096).value_or(0);
  const auto period =
      config.find<std::int64_t>("sliding_window_pattern").value_or(config.get<std::int64_t>("_sliding_window_pattern", 6));
  const auto types = read_layer_types(config, decoder, window, [&](std::int64_t layer) { return (layer + 1) % period != 0; });
  // Layers with a window see near tokens only, and keep the frequencies of short contexts.
  decoder.rotary = {
      read_rotary(config, decoder, {.layer_type = "full_attention", .default_theta = 1e6}),
      read_rotary(config, decoder, {.layer_type = "sliding_attention", .theta_key = "rope_local_base_freq", .scaled = false})};
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) {
    decoder.layers[i].attention.qk_norm = nn::QkNorm::kPerHead;
    decoder.layers[i].attention.rotary = types[i] == "sliding_attention" ? 1 : 0;
  }
  return decoder;
}

// The text part of a multimodal config, as a config of its own.
Json gemma3_text_config(const Json& config) {
  const auto text = config.find("text_config");
  if (text == config.end() || !text->is_object()) {
    throw UserError("config.json:text_config",
                    "expected dict, got " + (text == config.end() ? std::string("none") : json_type_name(*text)));
  }
  Json result = *text;
  result["architectures"] = Json::array({"Gemma3ForCausalLM"});
  for (const char* key : {"torch_dtype", "dtype", "bos_token_id", "eos_token_id", "pad_token_id", "transformers_version",
                          "tie_word_embeddings"}) {
    if (config.contains(key) && !result.contains(key)) result[key] = config[key];
  }
  return result;
}

}  // namespace

LanguageModelFamily gemma3_family() {
  return {.model_type = "gemma3_text",
          .architecture = "Gemma3ForCausalLM",
          .make = [](const HfConfig& config) -> LanguageModelPtr {
            return std::make_shared<Gemma3ForCausalLM>(read_gemma3(config), decoder_layer_factory<Gemma3DecoderLayerImpl>());
          },
          .multimodal_type = "gemma3",
          .text_config = gemma3_text_config};
}

}  // namespace oumi
