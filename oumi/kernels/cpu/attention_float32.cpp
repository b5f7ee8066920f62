#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "oumi/kernels/cpu/attention_tiles.h"
#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/matmul.h"

namespace oumi::kernels::cpu {

AttentionResult attention_forward_float32(const Tensor& query, const Tensor& key, const Tensor& value, const Visible& visible,
                                          const ScoreOptions& options) {
  const AttentionShape shape = shape_of(query, key);
  const auto [B, T, S, H, K, D] = shape;
  const Heads<float> q(query), k(key), v(value);
  AttentionResult result{at::empty({B, T, H, D}, at::kFloat), at::empty({B, H, T}, at::kFloat)};
  const Heads<float> out(result.out);
  float* log_sum = result.log_sum.mutable_data_ptr<float>();
  const std::int64_t blocks = shape.blocks(), group = shape.group();
  parallel_for(0, B * H * blocks, grain_of(2 * std::min(kQueries, T) * S * D), [&](std::int64_t first, std::int64_t last) {
    const OneThread one_thread;
    float* scores = scratch<float>(0, kQueries * kKeys);
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
      const KeyRange range = range_of(begin, end, rows);
      for (std::int64_t s = range.begin; s < range.end; s += kKeys) {
        const std::int64_t keys = std::min(kKeys, range.end - s);
        multiply(rows, keys, D, options.scale, {q.at(b, t, h), q.stride},
                 {k.at(b, s, h / group), k.stride, Layout::kTransposed}, 0, scores, kKeys);
        simd().attention_softmax({scores, rows, keys, kKeys, s, begin, end, options.soft_cap}, row_max, row_sum, accumulated,
                                 D);
        multiply(rows, D, keys, 1, {scores, kKeys}, {v.at(b, s, h / group), v.stride}, 1, accumulated, D);
      }
      simd().attention_finish(accumulated, row_max, row_sum, rows, D, out.at(b, t, h), out.stride,
                              log_sum + (b * H + h) * T + t);
    }
  });
  return result;
}

namespace {

struct Float32Backward {
  AttentionShape shape;
  const Heads<float>&q, &k, &v, &out, &grad_out;
  const float* log_sum;
  const Visible& visible;
  ScoreOptions options;
};

void run_backward_task(const Float32Backward& in, const AttentionTask& task, const Heads<float>& grad_q,
                       const Heads<float>& grad_k, const Heads<float>& grad_v) {
  const auto [B, T, S, H, K, D] = in.shape;
  const auto [b, h, block] = task;
  const std::int64_t kv = h / in.shape.group(), t = block * kQueries, rows = std::min(kQueries, T - t);
  float *scores = scratch<float>(0, kQueries * kKeys), *grads = scratch<float>(2, kQueries * kKeys);
  const std::int32_t* begin = in.visible.begin.const_data_ptr<int>() + b * T + t;
  const std::int32_t* end = in.visible.end.const_data_ptr<int>() + b * T + t;
  float delta[kQueries];
  for (std::int64_t r = 0; r < rows; ++r) delta[r] = simd().dot(in.out.at(b, t + r, h), in.grad_out.at(b, t + r, h), D);
  const Matrix q{in.q.at(b, t, h), in.q.stride}, grad_out{in.grad_out.at(b, t, h), in.grad_out.stride};
  const KeyRange range = range_of(begin, end, rows);
  for (std::int64_t s = range.begin; s < range.end; s += kKeys) {
    const std::int64_t keys = std::min(kKeys, range.end - s);
    const Matrix k{in.k.at(b, s, kv), in.k.stride}, k_transposed{k.data, k.stride, Layout::kTransposed};
    const Matrix v_transposed{in.v.at(b, s, kv), in.v.stride, Layout::kTransposed};
    multiply(rows, keys, D, in.options.scale, q, k_transposed, 0, scores, kKeys);
    multiply(rows, keys, D, 1, grad_out, v_transposed, 0, grads, kKeys);
    simd().attention_softmax_backward({scores, rows, keys, kKeys, s, begin, end, in.options.soft_cap}, grads,
                                      in.log_sum + (b * H + h) * T + t, delta, in.options.scale);
    multiply(keys, D, rows, 1, {scores, kKeys, Layout::kTransposed}, grad_out, 1, grad_v.at(b, s, kv), grad_v.stride);
    multiply(rows, D, keys, 1, {grads, kKeys}, k, 1, grad_q.at(b, t, h), grad_q.stride);
    multiply(keys, D, rows, 1, {grads, kKeys, Layout::kTransposed}, q, 1, grad_k.at(b, s, kv), grad_k.stride);
  }
}

}  // namespace

// A key head's gradients are summed by one thread, in the order of heads and blocks: the same bits at any number of threads.
AttentionGradients attention_backward_float32(const Tensor& query, const Tensor& key, const Tensor& value,
                                              const AttentionResult& forward, const Tensor& grad, const Visible& visible,
                                              const ScoreOptions& options) {
  const Heads<float> q(query), k(key), v(value), out(forward.out), grad_out(grad);
  const Float32Backward in{
      shape_of(query, key), q, k, v, out, grad_out, forward.log_sum.const_data_ptr<float>(), visible, options};
  const auto [B, T, S, H, K, D] = in.shape;
  AttentionGradients result{at::zeros({B, T, H, D}, at::kFloat), at::zeros({B, S, K, D}, at::kFloat),
                            at::zeros({B, S, K, D}, at::kFloat)};
  const Heads<float> grad_q(result.q), grad_k(result.k), grad_v(result.v);
  const std::int64_t blocks = in.shape.blocks(), group = in.shape.group();
  parallel_for(0, B * K, grain_of(5 * group * T * S * D), [&](std::int64_t first, std::int64_t last) {
    const OneThread one_thread;
    for (std::int64_t task = first; task < last; ++task) {
      for (std::int64_t h = task % K * group; h < (task % K + 1) * group; ++h) {
        for (std::int64_t block = 0; block < blocks; ++block)
          run_backward_task(in, {task / K, h, block}, grad_q, grad_k, grad_v);
      }
    }
  });
  return result;
}

}  // namespace oumi::kernels::cpu
