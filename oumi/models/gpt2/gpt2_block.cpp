#include "oumi/models/gpt2/gpt2_block.h"

#include <torch/types.h>

#include <cmath>

#include "oumi/nn/discarded_activation.h"
#include "oumi/nn/parallel_layers.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi {

GPT2AttentionImpl::GPT2AttentionImpl(const Gpt2Config& config, std::int64_t layer)
    : head_dim_(config.hidden_size / config.num_heads) {
  core_.parallel = nn::ParameterScope::current().tensor_parallel;
  num_heads_ = nn::share_of(core_.parallel, config.num_heads, "attention heads");
  const std::int64_t size = config.hidden_size;
  c_attn = register_module("c_attn", nn::column_parallel_linear(size, {size, size, size}, /*with_bias=*/true));
  c_proj = register_module("c_proj", nn::row_parallel_linear(size, size, /*with_bias=*/true));
  resid_dropout = register_module("resid_dropout", nn::Dropout(config.residual_dropout));
  core_.layer = layer;
  core_.dropout = config.attention_dropout;
  if (config.scale_attention) core_.scale /= std::sqrt(static_cast<double>(config.hidden_size / config.num_heads));
  if (config.scale_by_inverse_layer) core_.scale /= static_cast<double>(layer + 1);
}

Tensor GPT2AttentionImpl::forward(const Tensor& hidden, const nn::DecoderContext& context) {
  const Tensor qkv =
      c_attn(nn::enter(core_.parallel, hidden)).unflatten(-1, {3, num_heads_, head_dim_});  // [B, T, 3, heads, head_dim]
  return resid_dropout(c_proj(core_(qkv.select(2, 0), qkv.select(2, 1), qkv.select(2, 2), context, is_training())));
}

GPT2MLPImpl::GPT2MLPImpl(const Gpt2Config& config)
    : activation_(config.activation), parallel_(nn::ParameterScope::current().tensor_parallel) {
  nn::share_of(parallel_, config.inner_size, "n_inner");
  c_fc = register_module("c_fc", nn::column_parallel_linear(config.hidden_size, {config.inner_size}, /*with_bias=*/true));
  c_proj = register_module("c_proj", nn::row_parallel_linear(config.inner_size, config.hidden_size, /*with_bias=*/true));
  dropout = register_module("dropout", nn::Dropout(config.residual_dropout));
}

Tensor GPT2MLPImpl::forward(const Tensor& hidden) {
  const Tensor inner = c_fc(nn::enter(parallel_, hidden)), activated = nn::activate(activation_, inner);
  const Tensor result = c_proj(activated);
  if (!nn::has_call_hooks(*c_proj) && nn::is_kept_for_backward(activated, result)) {
    nn::discard_until_backward(activated, result,
                               [activation = activation_, inner = inner.detach()] { return nn::activate(activation, inner); });
  }
  return dropout(result);
}

GPT2BlockImpl::GPT2BlockImpl(const Gpt2Config& config, std::int64_t layer) {
  ln_1 = register_module("ln_1", nn::LayerNorm(config.hidden_size, config.layer_norm_eps));
  attn = register_module("attn", GPT2Attention(config, layer));
  ln_2 = register_module("ln_2", nn::LayerNorm(config.hidden_size, config.layer_norm_eps));
  mlp = register_module("mlp", GPT2MLP(config));
}

Tensor GPT2BlockImpl::forward(const Tensor& hidden, const nn::DecoderContext& context) {
  const Tensor normed = ln_1(hidden), branch = attn(normed, context);
  nn::discard_normed(*ln_1, hidden, normed, *attn, branch);
  const Tensor attended = hidden + branch;
  const Tensor normed_attended = ln_2(attended), result = mlp(normed_attended);
  nn::discard_normed(*ln_2, attended, normed_attended, *mlp, result);
  return attended + result;
}

}  // namespace oumi
