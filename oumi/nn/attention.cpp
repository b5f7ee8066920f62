#include "oumi/nn/attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <torch/types.h>

#include <limits>

#include "oumi/kernels/attention.h"
#include "oumi/kernels/rotary.h"
#include "oumi/nn/parallel_layers.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi::nn {
namespace {

// The fused form keeps no probabilities, so there is nothing to drop: with dropout they are written out.
Tensor attention_with_dropout(const Tensor& query, const Tensor& key, const Tensor& value,
                              const kernels::AttentionOptions& options, double dropout, const TensorParallelPtr& parallel) {
  const std::int64_t groups = query.size(2) / key.size(2);
  const Tensor q_BHTD = query.transpose(1, 2);
  const Tensor k_BHSD = key.transpose(1, 2).repeat_interleave(groups, 1),
               v_BHSD = value.transpose(1, 2).repeat_interleave(groups, 1);
  Tensor scores = at::matmul(q_BHTD, k_BHSD.transpose(-2, -1)).mul(options.scale).to(at::kFloat);
  if (options.soft_cap > 0) scores = scores.div(options.soft_cap).tanh().mul(options.soft_cap);
  const Tensor q_position = at::arange(query.size(1), query.options().dtype(at::kLong)).add(options.key_offset).unsqueeze(1);
  const Tensor k_position = at::arange(key.size(1), query.options().dtype(at::kLong)).unsqueeze(0);
  Tensor visible = k_position <= q_position;
  if (options.sliding_window > 0) visible = visible.logical_and(k_position > q_position - options.sliding_window);
  if (options.segment_ids.defined()) {
    const Tensor q_segments = options.segment_ids.narrow(1, options.key_offset, query.size(1)).unsqueeze(2);
    const Tensor same = (q_segments == options.segment_ids.unsqueeze(1)).logical_and(q_segments >= 0);
    visible = visible.logical_and(same).unsqueeze(1);
  }
  scores = scores.masked_fill(visible.logical_not(), -std::numeric_limits<float>::infinity());
  // A row that sees nothing is NaN after softmax: padding, which gives nothing.
  Tensor probabilities = at::softmax(scores, -1).masked_fill(visible.logical_not(), 0).to(query.scalar_type());
  probabilities = dropout_inside(parallel, probabilities, dropout, /*train=*/true);
  return at::matmul(probabilities, v_BHSD).transpose(1, 2);
}

}  // namespace

Tensor AttentionCore::operator()(const Tensor& query, const Tensor& key, const Tensor& value, const DecoderContext& context,
                                 bool training) const {
  Tensor keys = key, values = value;
  if (context.cache != nullptr) std::tie(keys, values) = context.cache->append(layer, key, value);
  const std::int64_t new_tokens = query.size(1), all_tokens = keys.size(1);
  kernels::AttentionOptions options;
  options.scale = scale;
  options.soft_cap = soft_cap;
  options.sliding_window = sliding_window;
  options.key_offset = all_tokens - new_tokens;
  if (context.segment_ids.defined()) {
    // A cache may have dropped the oldest tokens of a layer with a window.
    options.segment_ids = context.segment_ids.narrow(1, context.segment_ids.size(1) - all_tokens, all_tokens);
  }
  const Tensor result = training && dropout > 0 ? attention_with_dropout(query, keys, values, options, dropout, parallel)
                                                : kernels::attention(query, keys, values, options);
  return result.reshape({query.size(0), new_tokens, -1});
}

AttentionImpl::AttentionImpl(const AttentionConfig& config) : config_(config) {
  const TensorParallelPtr& parallel = config_.core.parallel = ParameterScope::current().tensor_parallel;
  config_.num_heads = share_of(parallel, config.num_heads, "attention heads");
  config_.num_kv_heads = share_of(parallel, config.num_kv_heads, "key-value heads");
  const std::int64_t query_size = config.num_heads * config.head_dim, key_size = config.num_kv_heads * config.head_dim;
  if (config.fused_qkv) {
    o_proj = register_module("o_proj", row_parallel_linear(query_size, config.hidden_size, config.output_bias));
    qkv_proj = register_module("qkv_proj",
                               column_parallel_linear(config.hidden_size, {query_size, key_size, key_size}, config.qkv_bias));
  } else {
    q_proj = register_module("q_proj", column_parallel_linear(config.hidden_size, {query_size}, config.qkv_bias));
    k_proj = register_module("k_proj", column_parallel_linear(config.hidden_size, {key_size}, config.qkv_bias));
    v_proj = register_module("v_proj", column_parallel_linear(config.hidden_size, {key_size}, config.qkv_bias));
    o_proj = register_module("o_proj", row_parallel_linear(query_size, config.hidden_size, config.output_bias));
  }
  if (config.qk_norm == QkNorm::kNone) return;
  const bool per_head = config.qk_norm == QkNorm::kPerHead;
  q_norm =
      register_module("q_norm", per_head ? RmsNorm(config.head_dim, config.norm) : parallel_rms_norm(query_size, config.norm));
  k_norm =
      register_module("k_norm", per_head ? RmsNorm(config.head_dim, config.norm) : parallel_rms_norm(key_size, config.norm));
  if (per_head) q_norm->shards = k_norm->shards = parallel;
}

Tensor AttentionImpl::forward(const Tensor& outside, const DecoderContext& context) {
  const Tensor hidden = enter(config_.core.parallel, outside);
  const std::int64_t query_size = config_.num_heads * config_.head_dim, key_size = config_.num_kv_heads * config_.head_dim;
  Tensor query, key, value;  // [B, T, heads * head_dim]
  if (config_.fused_qkv) {
    const Tensor qkv = qkv_proj(hidden);
    query = qkv.narrow(-1, 0, query_size);
    key = qkv.narrow(-1, query_size, key_size);
    value = qkv.narrow(-1, query_size + key_size, key_size);
  } else {
    const std::vector<Tensor> projected = outputs_of(hidden, {q_proj, k_proj, v_proj});
    query = projected[0];
    key = projected[1];
    value = projected[2];
  }
  if (config_.qk_norm == QkNorm::kAllHeads) {
    query = q_norm(query);
    key = k_norm(key);
  }
  query = query.unflatten(-1, {config_.num_heads, config_.head_dim});
  key = key.unflatten(-1, {config_.num_kv_heads, config_.head_dim});
  value = value.unflatten(-1, {config_.num_kv_heads, config_.head_dim});
  if (config_.qk_norm == QkNorm::kPerHead) {
    query = q_norm(query);
    key = k_norm(key);
  }
  const RotaryTable& rotary = context.rotary[config_.rotary];
  std::tie(query, key) = kernels::apply_rotary(query, key, rotary.cos, rotary.sin);
  if (context.last_token_only) query = query.narrow(1, query.size(1) - 1, 1);
  // Norms of float32 weights give float32 under autocast, and the product of bfloat16 is what autocast makes of all three.
  query = query.to(value.scalar_type());
  key = key.to(value.scalar_type());
  return o_proj(config_.core(query, key, value, context, is_training()));
}

}  // namespace oumi::nn
