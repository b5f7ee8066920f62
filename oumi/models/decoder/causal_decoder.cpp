#include "oumi/models/decoder/causal_decoder.h"

#include <ATen/ops/arange.h>
#include <c10/core/GradMode.h>
#include <torch/nn/init.h>
#include <torch/types.h>

#include "oumi/base/strings.h"
#include "oumi/nn/parallel_layers.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi {

Tensor decoder_positions(const DecoderInputs& inputs, std::int64_t new_tokens, c10::Device device) {
  if (inputs.position_ids.defined()) {
    if (inputs.position_ids.size(-1) != new_tokens) {
      throw UserError(call_path::current_path(),
                      cat("position_ids: expected [batch, ", new_tokens, "], got ", inputs.position_ids.sizes()));
    }
    return inputs.position_ids;
  }
  const std::int64_t begin = inputs.cache == nullptr ? 0 : inputs.cache->length();
  return at::arange(begin, begin + new_tokens, at::TensorOptions().dtype(at::kLong).device(device));
}

Tensor decoder_segments(const DecoderInputs& inputs, std::int64_t new_tokens) {
  const std::int64_t all_tokens = new_tokens + (inputs.cache == nullptr ? 0 : inputs.cache->length());
  const auto check = [&](const Tensor& tensor, const char* name) {
    if (tensor.dim() == 2 && tensor.size(1) == all_tokens) return;
    throw UserError(call_path::current_path(), cat(name, ": expected [batch, ", all_tokens, "], got ", tensor.sizes()));
  };
  if (inputs.segment_ids.defined()) {
    check(inputs.segment_ids, "segment_ids");
    return inputs.segment_ids.to(at::kInt);
  }
  if (!inputs.attention_mask.defined()) return {};
  check(inputs.attention_mask, "attention_mask");
  const Tensor mask = inputs.attention_mask.to(at::kInt);
  return mask.min().item<int>() != 0 ? Tensor() : mask - 1;  // 1 -> segment 0, 0 -> padding
}

Tensor embed_inputs(const DecoderInputs& inputs, const nn::Embedding& embedding, const TensorParallelPtr& parallel) {
  if (!inputs.inputs_embeds.defined()) return embedding(inputs.input_ids);
  return parallel ? parallel->to_outside(inputs.inputs_embeds) : inputs.inputs_embeds;
}

void initialize_normal(torch::nn::Module& module, double std) {
  const c10::AutoGradMode no_grad(false);
  for (const auto& part : module.modules()) {
    if (auto* linear = dynamic_cast<nn::LinearImpl*>(part.get())) {
      if (linear->named_parameters(false).contains("weight")) {
        nn::initialize_whole(*linear, "weight", linear->weight, [&](Tensor& weight) { weight.normal_(0, std); });
      }
      if (linear->bias.defined()) nn::initialize_whole(*linear, "bias", linear->bias, [](Tensor& bias) { bias.zero_(); });
    } else if (auto* embedding = dynamic_cast<nn::EmbeddingImpl*>(part.get())) {
      nn::initialize_whole(*embedding, "weight", embedding->weight, [&](Tensor& weight) {
        weight.normal_(0, std);
        if (embedding->padding_idx >= 0) weight.select(0, embedding->padding_idx).zero_();
      });
    }
  }
}

DecoderStackImpl::DecoderStackImpl(DecoderConfig config, const DecoderLayerFactory& make_layer)
    : config_(std::move(config)), parallel_(nn::ParameterScope::current().tensor_parallel) {
  embed_tokens = register_module("embed_tokens",
                                 nn::vocab_parallel_embedding(config_.dimensions.vocab_size, config_.dimensions.hidden_size));
  embed_tokens->padding_idx = config_.padding_idx;
  embed_tokens->scale = config_.embedding_scale;
  const auto layers = register_module("layers", torch::nn::ModuleList());
  for (const nn::DecoderLayerConfig& layer : config_.layers) {
    layers_.push_back(make_layer(layer));
    layers->push_back(layers_.back().ptr());
  }
  norm = register_module("norm", nn::RmsNorm(config_.dimensions.hidden_size, config_.norm));
}

Tensor DecoderStackImpl::forward(const DecoderInputs& inputs) {
  Tensor hidden = embed_inputs(inputs, embed_tokens, parallel_);
  if (config_.embedding_dropout > 0) hidden = nn::dropout_outside(parallel_, hidden, config_.embedding_dropout, is_training());
  const std::int64_t new_tokens = inputs.new_tokens();
  nn::DecoderContext context;
  context.segment_ids = decoder_segments(inputs, new_tokens);
  context.cache = inputs.cache;
  const Tensor positions = decoder_positions(inputs, new_tokens, hidden.device());
  for (const nn::RotaryConfig& rotary : config_.rotary) context.rotary.push_back(nn::rotary_table(rotary, positions));
  if (hidden.scalar_type() == at::kDouble) {
    for (nn::RotaryTable& table : context.rotary) table = {table.cos.to(at::kDouble), table.sin.to(at::kDouble)};
  }
  for (const nn::DecoderLayer& layer : layers_) {
    context.last_token_only = inputs.last_token_only && &layer == &layers_.back();
    hidden = layer(hidden, context);
  }
  return nn::enter(parallel_, norm(hidden));
}

CausalDecoder::CausalDecoder(const DecoderConfig& config, const DecoderLayerFactory& make_layer) {
  model_ = register_module("model", DecoderStack(config, make_layer));
  lm_head_ = register_module("lm_head", nn::column_parallel_linear(config.dimensions.hidden_size,
                                                                   {config.dimensions.vocab_size}, /*with_bias=*/false));
  if (config.dimensions.tie_word_embeddings) lm_head_->share_weight(model_->embed_tokens->weight);
}

nn::Linear CausalDecoder::output_head() {
  // Whoever replaced the embedding's tensor (sharding, a dtype) replaced the head's.
  if (model_->config().dimensions.tie_word_embeddings) lm_head_->weight = model_->embed_tokens->weight;
  return lm_head_;
}

Tensor CausalDecoder::logits(const Tensor& hidden) {
  const Tensor raw = whole_logits(output_head()(hidden));
  const double cap = final_logit_soft_cap();
  return cap > 0 ? raw.div(cap).tanh().mul(cap) : raw;
}

void CausalDecoder::initialize_weights() { initialize_normal(*this, model_->config().initializer_range); }

}  // namespace oumi
