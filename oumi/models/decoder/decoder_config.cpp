#include "oumi/models/decoder/decoder_config.h"

#include <cmath>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

// -1 for none. A default beyond a small vocabulary means nothing; a given one is a mistake. Negative ids count from the end, as
// PyTorch's padding_idx does.
std::int64_t read_padding_index(const HfConfig& config, std::int64_t fallback, std::int64_t vocab_size) {
  if (!config.values().contains("pad_token_id")) return fallback < vocab_size ? fallback : -1;
  const auto given = config.find<std::int64_t>("pad_token_id");
  if (!given) return -1;
  const std::int64_t index = *given < 0 ? *given + vocab_size : *given;
  if (index >= 0 && index < vocab_size) return index;
  throw UserError(config.key("pad_token_id"), cat("expected an id below vocab_size (", vocab_size, "), got ", *given));
}

}  // namespace

DecoderConfig read_dense_config(const HfConfig& config, const DenseDefaults& defaults) {
  DecoderConfig decoder;
  LanguageModelDimensions& dims = decoder.dimensions;
  dims.vocab_size = config.size("vocab_size", defaults.vocab_size);
  dims.hidden_size = config.size("hidden_size", defaults.hidden_size);
  dims.num_hidden_layers = config.size("num_hidden_layers", defaults.num_hidden_layers);
  dims.num_attention_heads = config.size("num_attention_heads", defaults.num_attention_heads);
  dims.num_key_value_heads = config.size(
      "num_key_value_heads", defaults.num_key_value_heads > 0 ? defaults.num_key_value_heads : dims.num_attention_heads);
  dims.head_dim =
      config.size("head_dim", defaults.head_dim > 0 ? defaults.head_dim : dims.hidden_size / dims.num_attention_heads);
  dims.max_position_embeddings = config.size("max_position_embeddings", defaults.max_position_embeddings);
  dims.tie_word_embeddings = config.get<bool>("tie_word_embeddings", defaults.tie_word_embeddings);
  if (dims.num_attention_heads % dims.num_key_value_heads != 0) {
    throw UserError(config.key("num_key_value_heads"), cat("expected a divisor of num_attention_heads (",
                                                           dims.num_attention_heads, "), got ", dims.num_key_value_heads));
  }
  decoder.norm.eps = config.get<double>("rms_norm_eps", defaults.rms_norm_eps);
  decoder.initializer_range = config.get<double>("initializer_range", 0.02);
  decoder.padding_idx = read_padding_index(config, defaults.pad_token_id, dims.vocab_size);

  nn::DecoderLayerConfig layer;
  layer.norm = decoder.norm;
  layer.attention.hidden_size = dims.hidden_size;
  layer.attention.num_heads = dims.num_attention_heads;
  layer.attention.num_kv_heads = dims.num_key_value_heads;
  layer.attention.head_dim = dims.head_dim;
  layer.attention.norm = decoder.norm;
  layer.attention.core.scale = 1.0 / std::sqrt(static_cast<double>(dims.head_dim));
  layer.attention.core.dropout = config.get<double>("attention_dropout", 0.0);
  layer.mlp.hidden_size = dims.hidden_size;
  layer.mlp.intermediate_size = config.size("intermediate_size", defaults.intermediate_size);
  layer.mlp.activation = nn::parse_activation(config.get<std::string>(defaults.activation_key, defaults.activation),
                                              config.key(defaults.activation_key));
  for (std::int64_t i = 0; i < dims.num_hidden_layers; ++i) {
    layer.attention.core.layer = i;
    decoder.layers.push_back(layer);
  }
  return decoder;
}

std::vector<std::string> apply_layer_types(const HfConfig& config, DecoderConfig& decoder, std::int64_t sliding_window,
                                           const std::vector<bool>& sliding) {
  std::vector<std::string> types;
  for (const bool is_sliding : sliding) types.push_back(is_sliding ? "sliding_attention" : "full_attention");
  if (auto given = config.find<std::vector<std::string>>("layer_types")) types = std::move(*given);
  if (types.size() != decoder.layers.size()) {
    throw UserError(config.key("layer_types"),
                    cat("expected one for each of the ", decoder.layers.size(), " layers, got ", types.size()));
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] != "sliding_attention" && types[i] != "full_attention") {
      throw UserError(config.key("layer_types"),
                      cat("layer ", i, ": expected full_attention or sliding_attention, got '", types[i], "'"));
    }
    decoder.layers[i].attention.core.sliding_window = types[i] == "sliding_attention" ? sliding_window : 0;
  }
  return types;
}

void set_attention_bias(DecoderConfig& decoder, bool qkv, bool output) {
  for (nn::DecoderLayerConfig& layer : decoder.layers) {
    layer.attention.qkv_bias = qkv;
    layer.attention.output_bias = output;
  }
}

}  // namespace oumi
