#include "oumi/nn/decoder_layer.h"

#include <torch/types.h>

#include "oumi/base/error.h"
#include "oumi/nn/discarded_activation.h"
#include "oumi/nn/parallel_layers.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi::nn {

DecoderLayerImpl::DecoderLayerImpl(const DecoderLayerConfig& config)
    : norms_(config.norms), residual_dropout_(config.residual_dropout), parallel_(ParameterScope::current().tensor_parallel) {
  self_attn = register_module("self_attn", Attention(config.attention));
  if (config.experts && parallel_) {
    throw UserError("parallel.tensor_model_parallel_size",
                    "mixtures of experts can't be spread over ranks yet: expected 1 for this model, got more",
                    "spread it over data-parallel ranks with fsdp instead");
  }
  if (config.experts) {
    experts = register_module("mlp", SparseMoe(*config.experts));
  } else {
    mlp = register_module("mlp", GatedMlp(config.mlp));
  }
  const auto norm = [&](const char* name) { return register_module(name, RmsNorm(config.attention.hidden_size, config.norm)); };
  if (norms_ != NormPlacement::kAfter) input_layernorm = norm("input_layernorm");
  post_attention_layernorm = norm("post_attention_layernorm");
  if (norms_ == NormPlacement::kBoth) pre_feedforward_layernorm = norm("pre_feedforward_layernorm");
  if (norms_ != NormPlacement::kBefore) post_feedforward_layernorm = norm("post_feedforward_layernorm");
}

Tensor DecoderLayerImpl::attention_of_normed(const Tensor& hidden, const DecoderContext& context) {
  const Tensor normed = input_layernorm(hidden);
  Tensor result = self_attn(normed, context);
  discard_normed(*input_layernorm, hidden, normed, *self_attn, result);
  return result;
}

Tensor DecoderLayerImpl::feed_forward(const Tensor& hidden) { return experts ? experts(hidden) : mlp(hidden); }

std::pair<Tensor, Tensor> DecoderLayerImpl::feed_forward_of_normed(RmsNormImpl& norm, const Tensor& hidden,
                                                                   const Tensor& branch) {
  const auto [normed, sum] = norm.add(branch, hidden);
  Tensor result = feed_forward(normed);
  discard_normed(norm, sum, normed, experts ? static_cast<const torch::nn::Module&>(*experts) : *mlp, result);
  return {std::move(result), sum};
}

Tensor DecoderLayerImpl::forward(const Tensor& hidden, const DecoderContext& context) {
  const auto dropped = [&](const Tensor& branch) {
    return residual_dropout_ > 0 ? dropout_outside(parallel_, branch, residual_dropout_, is_training()) : branch;
  };
  const Tensor residual = context.last_token_only ? hidden.narrow(1, hidden.size(1) - 1, 1) : hidden;
  switch (norms_) {
    case NormPlacement::kBefore: {
      const auto [result, attended] =
          feed_forward_of_normed(*post_attention_layernorm, residual, dropped(attention_of_normed(hidden, context)));
      return attended + dropped(result);
    }
    case NormPlacement::kAfter: {
      const Tensor attended = residual + dropped(post_attention_layernorm(self_attn(hidden, context)));
      return attended + dropped(post_feedforward_layernorm(feed_forward(attended)));
    }
    case NormPlacement::kBoth: {
      const Tensor branch = post_attention_layernorm(attention_of_normed(hidden, context));
      const auto [result, attended] = feed_forward_of_normed(*pre_feedforward_layernorm, residual, dropped(branch));
      return attended + dropped(post_feedforward_layernorm(result));
    }
  }
  return hidden;
}

}  // namespace oumi::nn
