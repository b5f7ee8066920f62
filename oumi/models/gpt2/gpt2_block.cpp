#include "oumi/models/gpt2/gpt2_block.h"

#include <torch/types.h>

#include <cmath>

namespace oumi {

GPT2AttentionImpl::GPT2AttentionImpl(const Gpt2Config& config, std::int64_t layer) : num_heads_(config.num_heads) {
  c_attn = register_module("c_attn", nn::Linear(config.hidden_size, 3 * config.hidden_size));
  c_proj = register_module("c_proj", nn::Linear(config.hidden_size, config.hidden_size));
  resid_dropout = register_module("resid_dropout", nn::Dropout(config.residual_dropout));
  core_.layer = layer;
  core_.dropout = config.attention_dropout;
  if (config.scale_attention) core_.scale /= std::sqrt(static_cast<double>(config.hidden_size / config.num_heads));
  if (config.scale_by_inverse_layer) core_.scale /= static_cast<double>(layer + 1);
}

Tensor GPT2AttentionImpl::forward(const Tensor& hidden, const nn::DecoderContext& context) {
  const Tensor qkv = c_attn(hidden).unflatten(-1, {3, num_heads_, hidden.size(-1) / num_heads_});  // [B, T, 3, heads, head_dim]
  return resid_dropout(c_proj(core_(qkv.select(2, 0), qkv.select(2, 1), qkv.select(2, 2), context, is_training())));
}

GPT2MLPImpl::GPT2MLPImpl(const Gpt2Config& config) : activation_(config.activation) {
  c_fc = register_module("c_fc", nn::Linear(config.hidden_size, config.inner_size));
  c_proj = register_module("c_proj", nn::Linear(config.inner_size, config.hidden_size));
  dropout = register_module("dropout", nn::Dropout(config.residual_dropout));
}

Tensor GPT2MLPImpl::forward(const Tensor& hidden) { return dropout(c_proj(nn::activate(activation_, c_fc(hidden)))); }

GPT2BlockImpl::GPT2BlockImpl(const Gpt2Config& config, std::int64_t layer) {
  ln_1 = register_module("ln_1", nn::LayerNorm(config.hidden_size, config.layer_norm_eps));
  attn = register_module("attn", GPT2Attention(config, layer));
  ln_2 = register_module("ln_2", nn::LayerNorm(config.hidden_size, config.layer_norm_eps));
  mlp = register_module("mlp", GPT2MLP(config));
}

Tensor GPT2BlockImpl::forward(const Tensor& hidden, const nn::DecoderContext& context) {
  const Tensor attended = hidden + attn(ln_1(hidden), context);
  return attended + mlp(ln_2(attended));
}

}  // namespace oumi
