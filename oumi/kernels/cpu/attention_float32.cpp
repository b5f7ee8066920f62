#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "oumi/kernels/cpu/attention_operands.h"
#include "oumi/kernels/cpu/attention_tiles.h"
#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/matmul_float32.h"

namespace oumi::kernels::cpu {
namespace {

// Calls action(first key, keys) for the tiles that cover a range.
template <class Action>
void for_key_tiles(const KeyRange& range, Action&& action) {
  for (std::int64_t s = range.begin / kTileStep * kTileStep; s < range.end; s += kKeys)
    action(s, std::min(kKeys, range.end - s));
}

// A few queries, as in decoding, are not worth packing all keys for.
bool by_strips(std::int64_t queries) { return has_blocks() && queries >= 16; }

template <class Form>
AttentionResult forward_by(const Tensor& query, const Tensor& key, const Tensor& value, const Visible& visible,
                           const ScoreOptions& options) {
  const AttentionShape shape = shape_of(query, key);
  const auto [B, T, S, H, K, D] = shape;
  const Heads<float> q(query), k_heads(key), v_heads(value);
  const typename Form::Keys k(k_heads, shape, {.with_rows = true}), v(v_heads, shape, {.with_tiles = true});
  AttentionResult result{at::empty({B, T, H, D}, at::kFloat), at::empty({B, H, T}, at::kFloat)};
  const Heads<float> out(result.out);
  float* log_sum = result.log_sum.mutable_data_ptr<float>();
  const std::int64_t blocks = shape.blocks(), group = shape.group();
  parallel_for(0, B * H * blocks, grain_of(2 * std::min(kQueries, T) * S * D), [&](std::int64_t first, std::int64_t last) {
    const OneThread one_thread;
    float* scores = scratch<float>(0, kQueries * kTileStride);
    float* accumulated = scratch<float>(1, kQueries * D);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t block = task % blocks, h = task / blocks % H, b = task / blocks / H;
      const std::int64_t t = block * kQueries, rows = std::min(kQueries, T - t);
      const std::int32_t* begin = visible.begin.const_data_ptr<int>() + b * T + t;
      const std::int32_t* end = visible.end.const_data_ptr<int>() + b * T + t;
      float row_max[kQueries], row_sum[kQueries];
      std::fill_n(row_max, kQueries, -std::numeric_limits<float>::infinity());
      std::fill_n(row_sum, kQueries, 0.0f);
      std::fill_n(accumulated, rows * D, 0.0f);
      for_key_tiles(range_of(begin, end, rows), [&](std::int64_t s, std::int64_t keys) {
        const KeyPlace place{b, h / group, s, keys};
        k.multiply_rows(q.at(b, t, h), q.stride, rows, place, scores);
        simd().attention_softmax({scores, rows, keys, kTileStride, s, begin, end, options.soft_cap, options.scale}, row_max,
                                 row_sum, accumulated, D);
        v.add_tile(scores, rows, place, accumulated, D);
      });
      simd().attention_finish(accumulated, row_max, row_sum, rows, D, out.at(b, t, h), out.stride,
                              log_sum + (b * H + h) * T + t);
    }
  });
  return result;
}

template <class Form>
struct Float32Backward {
  AttentionShape shape;
  const Heads<float>&q, &out, &grad_out;
  const typename Form::Keys &k, &v;
  const float* log_sum;
  const Visible& visible;
  ScoreOptions options;
};

// Where a task adds: a key head's gradients, or a query head's part of them.
struct GradientSums {
  const Heads<float>&q, &k, &v;
  std::int64_t key_head;
};

template <class Form>
void run_backward_task(const Float32Backward<Form>& in, const AttentionTask& task, const GradientSums& sums) {
  const auto [B, T, S, H, K, D] = in.shape;
  const auto [b, h, block] = task;
  const std::int64_t kv = h / in.shape.group(), t = block * kQueries, rows = std::min(kQueries, T - t);
  float *scores = scratch<float>(0, kQueries * kTileStride), *grads = scratch<float>(2, kQueries * kTileStride);
  const Visible& visible = in.visible;
  const std::int32_t* begin = visible.begin.const_data_ptr<int>() + b * T + t;
  const std::int32_t* end = visible.end.const_data_ptr<int>() + b * T + t;
  float delta[kQueries];
  for (std::int64_t r = 0; r < rows; ++r) delta[r] = simd().float32.dot(in.out.at(b, t + r, h), in.grad_out.at(b, t + r, h), D);
  const float *q = in.q.at(b, t, h), *grad_out = in.grad_out.at(b, t, h);
  const typename Form::Rows q_rows(q, in.q.stride, rows, D, 3), grad_rows(grad_out, in.grad_out.stride, rows, D, 4);
  for_key_tiles(range_of(begin, end, rows), [&](std::int64_t s, std::int64_t keys) {
    const KeyPlace place{b, kv, s, keys};
    in.k.multiply_rows(q, in.q.stride, rows, place, scores);
    in.v.multiply_rows(grad_out, in.grad_out.stride, rows, place, grads);
    simd().attention_softmax_backward({scores, rows, keys, kTileStride, s, begin, end, in.options.soft_cap, in.options.scale},
                                      grads, in.log_sum + (b * H + h) * T + t, delta, in.options.scale);
    grad_rows.add_transposed_tile(scores, keys, sums.v.at(b, s, sums.key_head), sums.v.stride);
    q_rows.add_transposed_tile(grads, keys, sums.k.at(b, s, sums.key_head), sums.k.stride);
    in.k.add_tile(grads, rows, place, sums.q.at(b, t, h), sums.q.stride);
  });
}

// A head's gradients are summed by one thread, in the order of heads and blocks: the same bits at any number of threads.
template <class Form>
AttentionGradients backward_by(const Tensor& query, const Tensor& key, const Tensor& value, const AttentionResult& forward,
                               const Tensor& grad, const Visible& visible, const ScoreOptions& options) {
  const AttentionShape shape = shape_of(query, key);
  const Heads<float> q(query), k_heads(key), v_heads(value), out(forward.out), grad_out(grad);
  const typename Form::Keys k(k_heads, shape, {.with_rows = true, .with_tiles = true}), v(v_heads, shape, {.with_rows = true});
  const Float32Backward<Form> in{shape, q, out, grad_out, k, v, forward.log_sum.const_data_ptr<float>(), visible, options};
  const auto [B, T, S, H, K, D] = in.shape;
  const bool by_query_head = sums_by_query_head(shape);
  const std::int64_t heads = by_query_head ? H : K, heads_per_task = H / heads;
  AttentionGradients result{at::zeros({B, T, H, D}, at::kFloat), at::zeros({B, S, heads, D}, at::kFloat),
                            at::zeros({B, S, heads, D}, at::kFloat)};
  const Heads<float> grad_q(result.q), grad_k(result.k), grad_v(result.v);
  const std::int64_t blocks = shape.blocks();
  parallel_for(0, B * heads, grain_of(5 * heads_per_task * T * S * D), [&](std::int64_t first, std::int64_t last) {
    const OneThread one_thread;
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t b = task / heads, head = task % heads;
      for (std::int64_t h = head * heads_per_task; h < (head + 1) * heads_per_task; ++h) {
        for (std::int64_t block = 0; block < blocks; ++block)
          run_backward_task(in, {b, h, block}, {grad_q, grad_k, grad_v, head});
      }
    }
  });
  if (by_query_head) {
    const auto added_up = [&](const Tensor& of_heads) { return of_heads.view({B, S, K, shape.group(), D}).sum(3); };
    result.k = added_up(result.k);
    result.v = added_up(result.v);
  }
  return result;
}

}  // namespace

AttentionResult attention_forward_float32(const Tensor& query, const Tensor& key, const Tensor& value, const Visible& visible,
                                          const ScoreOptions& options) {
  if (by_strips(query.size(1))) return forward_by<ByStrips>(query, key, value, visible, options);
  return forward_by<ByBlas>(query, key, value, visible, options);
}

AttentionGradients attention_backward_float32(const Tensor& query, const Tensor& key, const Tensor& value,
                                              const AttentionResult& result, const Tensor& grad_out, const Visible& visible,
                                              const ScoreOptions& options) {
  if (by_strips(query.size(1))) return backward_by<ByStrips>(query, key, value, result, grad_out, visible, options);
  return backward_by<ByBlas>(query, key, value, result, grad_out, visible, options);
}

}  // namespace oumi::kernels::cpu
