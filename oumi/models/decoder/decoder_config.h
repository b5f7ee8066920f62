// What a decoder is made of, and the reading of the keys that dense families share.
#pragma once

#include <string>
#include <vector>

#include "oumi/models/decoder/hf_config.h"
#include "oumi/models/language_model.h"
#include "oumi/nn/decoder_layer.h"
#include "oumi/nn/rotary.h"

namespace oumi {

struct DecoderConfig {
  LanguageModelDimensions dimensions;
  std::vector<nn::DecoderLayerConfig> layers;
  std::vector<nn::RotaryConfig> rotary;
  nn::RmsNormOptions norm{};
  double embedding_scale = 1;  // rounded to the weights' dtype, as Gemma does
  double embedding_dropout = 0;
  double final_logit_soft_cap = 0;
  double initializer_range = 0.02;
  std::int64_t padding_idx = -1;  // the embedding row that starts at zero and gets no gradient
};

// A family's defaults for keys that config.json leaves out (configuration_*.py).
struct DenseDefaults {
  std::int64_t vocab_size = 32000, hidden_size = 4096, intermediate_size = 11008;
  std::int64_t num_hidden_layers = 32, num_attention_heads = 32;
  std::int64_t num_key_value_heads = 0;  // 0: num_attention_heads
  std::int64_t head_dim = 0;             // 0: hidden_size / num_attention_heads
  std::int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  std::int64_t pad_token_id = -1;
};

// vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim, the
// activation, max_position_embeddings, rms_norm_eps, initializer_range, tie_word_embeddings, attention_dropout, pad_token_id: a
// decoder of equal, full-attention layers without biases, which the family then changes. Rotary is left to the family.
DecoderConfig read_dense_config(const HfConfig& config, const DenseDefaults& defaults);

// Sets the sliding window of the layers that `layer_types` names "sliding_attention"; without that key, of those for which
// `is_sliding(layer index)` holds. Returns the kinds, one a layer. A null or absent sliding_window means none.
template <class IsSliding>
std::vector<std::string> read_layer_types(const HfConfig& config, DecoderConfig& decoder, std::int64_t sliding_window,
                                          IsSliding is_sliding);
std::vector<std::string> apply_layer_types(const HfConfig& config, DecoderConfig& decoder, std::int64_t sliding_window,
                                           const std::vector<bool>& sliding);

template <class IsSliding>
std::vector<std::string> read_layer_types(const HfConfig& config, DecoderConfig& decoder, std::int64_t sliding_window,
                                          IsSliding is_sliding) {
  std::vector<bool> sliding;
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) sliding.push_back(is_sliding(static_cast<std::int64_t>(i)));
  return apply_layer_types(config, decoder, sliding_window, sliding);
}

// Biases of all attention projections ("attention_bias").
void set_attention_bias(DecoderConfig& decoder, bool qkv, bool output);

struct RotaryQuery {
  std::string layer_type{};  // which part of a nested rope_parameters; empty: it must be flat
  const char* theta_key = "rope_theta";
  double default_theta = 10000;
  bool scaled = true;    // false: rope_scaling is about other layers
  bool partial = false;  // the family knows partial_rotary_factor
  bool yarn_is_longrope = false;
  std::int64_t default_original =
      0;  // of the family's own original_max_position_embeddings, which wins over one in rope_parameters
};

// Both spellings: rope_parameters {rope_type, rope_theta, ...} of Transformers 5, or rope_theta + rope_scaling {rope_type |
// type, ...} of Transformers 4; where both are there, rope_scaling wins, as in Transformers. Throws UserError naming the key.
nn::RotaryConfig read_rotary(const HfConfig& config, const DecoderConfig& decoder, const RotaryQuery& query = {});

}  // namespace oumi
