#include "oumi/nn/decoder_layer.h"

#include <torch/types.h>

#include "oumi/base/error.h"
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

Tensor DecoderLayerImpl::feed_forward(const Tensor& hidden) { return experts ? experts(hidden) : mlp(hidden); }

Tensor DecoderLayerImpl::forward(const Tensor& hidden, const DecoderContext& context) {
  const auto add = [&](const Tensor& residual, const Tensor& branch) {
    return residual + (residual_dropout_ > 0 ? dropout_outside(parallel_, branch, residual_dropout_, is_training()) : branch);
  };
  switch (norms_) {
    case NormPlacement::kBefore: {
      const Tensor attended = add(hidden, self_attn(input_layernorm(hidden), context));
      return add(attended, feed_forward(post_attention_layernorm(attended)));
    }
    case NormPlacement::kAfter: {
      const Tensor attended = add(hidden, post_attention_layernorm(self_attn(hidden, context)));
      return add(attended, post_feedforward_layernorm(feed_forward(attended)));
    }
    case NormPlacement::kBoth: {
      const Tensor attended = add(hidden, post_attention_layernorm(self_attn(input_layernorm(hidden), context)));
      return add(attended, post_feedforward_layernorm(feed_forward(pre_feedforward_layernorm(attended))));
    }
  }
  return hidden;
}

}  // namespace oumi::nn
