// B batch, T query, S key, H heads, K kv_heads, D head_dim.
//
// Every mask that attention() knows lets a query see one run of keys, so that a row's mask is two numbers and whole tiles outside it are
// left out. Scores of a tile of kQueries x kKeys live in the cache of the thread that makes them.
#include "oumi/kernels/cpu/attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>
#include <unordered_set>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/matmul.h"

namespace oumi::kernels::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kQueries = 64, kKeys = 256;

// [batch, query] each: query t sees the keys [begin, end).
struct Visible {
  Tensor begin, end;
};

// The run of equal ids that each position lies in, as int32 [batch, position] pairs; padding has an empty one. False when an id comes
// back after another.
bool segment_runs(const Tensor& segment_ids, std::vector<std::int32_t>& begin, std::vector<std::int32_t>& end) {
  const Tensor ids = segment_ids.contiguous();
  const std::int64_t batch = ids.size(0), length = ids.size(1);
  begin.assign(static_cast<std::size_t>(batch * length), 0);
  end.assign(static_cast<std::size_t>(batch * length), 0);
  for (std::int64_t b = 0; b < batch; ++b) {
    const int* row = ids.const_data_ptr<int>() + b * length;
    std::unordered_set<int> seen;
    for (std::int64_t first = 0; first < length;) {
      std::int64_t last = first + 1;
      while (last < length && row[last] == row[first]) ++last;
      if (row[first] >= 0) {
        if (!seen.insert(row[first]).second) return false;
        for (std::int64_t i = first; i < last; ++i) {
          begin[static_cast<std::size_t>(b * length + i)] = static_cast<std::int32_t>(first);
          end[static_cast<std::size_t>(b * length + i)] = static_cast<std::int32_t>(last);
        }
      }
      first = last;
    }
  }
  return true;
}

Visible visible_keys(std::int64_t batch, std::int64_t queries, std::int64_t keys, const AttentionOptions& options) {
  Visible visible{at::empty({batch, queries}, at::kInt), at::empty({batch, queries}, at::kInt)};
  std::vector<std::int32_t> run_begin, run_end;
  if (options.segment_ids.defined()) segment_runs(options.segment_ids, run_begin, run_end);
  auto* begin = visible.begin.mutable_data_ptr<int>();
  auto* end = visible.end.mutable_data_ptr<int>();
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t t = 0; t < queries; ++t) {
      const std::int64_t position = options.key_offset + t;
      std::int64_t low = 0, high = keys;
      if (options.causal) high = std::min(high, position + 1);
      if (options.sliding_window > 0) low = std::max<std::int64_t>(low, position - options.sliding_window + 1);
      if (!run_begin.empty()) {
        const auto at = static_cast<std::size_t>(b * keys + position);
        low = std::max<std::int64_t>(low, run_begin[at]);
        high = std::min<std::int64_t>(high, run_end[at]);
      }
      begin[b * queries + t] = static_cast<std::int32_t>(low);
      end[b * queries + t] = static_cast<std::int32_t>(std::max(low, high));
    }
  }
  return visible;
}

// A float32 [batch, position, heads, head_dim] tensor whose last dimension is packed.
struct Heads {
  explicit Heads(const Tensor& tensor)
      : holder(tensor.stride(3) == 1 && tensor.stride(1) >= tensor.size(3) ? tensor : tensor.contiguous()),
        data(holder.mutable_data_ptr<float>()),
        batch_stride(holder.stride(0)),
        stride(holder.stride(1)),
        head_stride(holder.stride(2)) {}
  float* at(std::int64_t batch, std::int64_t position, std::int64_t head) const {
    return data + batch * batch_stride + position * stride + head * head_stride;
  }

  Tensor holder;
  float* data;
  std::int64_t batch_stride, stride, head_stride;
};

// A thread's tiles: kept between calls, so that a step allocates nothing here.
float* scratch(std::size_t slot, std::int64_t size) {
  thread_local std::vector<float> buffers[8];
  auto& buffer = buffers[slot];
  if (buffer.size() < static_cast<std::size_t>(size)) buffer.resize(static_cast<std::size_t>(size));
  return buffer.data();
}

// The keys that some query of a block sees.
struct Range {
  std::int64_t begin, end;
};

Range range_of(const std::int32_t* begin, const std::int32_t* end, std::int64_t rows) {
  Range range{std::numeric_limits<std::int64_t>::max(), 0};
  for (std::int64_t row = 0; row < rows; ++row) {
    if (begin[row] >= end[row]) continue;
    range.begin = std::min<std::int64_t>(range.begin, begin[row]);
    range.end = std::max<std::int64_t>(range.end, end[row]);
  }
  return range.begin > range.end ? Range{0, 0} : range;
}

struct Shape {
  std::int64_t batch, queries, keys, heads, kv_heads, head_dim;
  std::int64_t group() const { return heads / kv_heads; }
  std::int64_t blocks() const { return (queries + kQueries - 1) / kQueries; }
};

struct Saved {
  Tensor out, log_sum;  // float32 [batch, query, heads, head_dim] and [batch, heads, query]
};

Saved run_forward(const Shape& shape, const Heads& q, const Heads& k, const Heads& v, const Visible& visible, float scale, float soft_cap) {
  const auto [B, T, S, H, K, D] = shape;
  Saved saved{at::empty({B, T, H, D}, at::kFloat), at::empty({B, H, T}, at::kFloat)};
  const Heads out(saved.out);
  float* log_sum = saved.log_sum.mutable_data_ptr<float>();
  const std::int64_t blocks = shape.blocks(), group = shape.group();
  parallel_for(0, B * H * blocks, grain_of(2 * std::min(kQueries, T) * S * D), [&](std::int64_t first, std::int64_t last) {
    const OneThread one_thread;
    float* scores = scratch(0, kQueries * kKeys);
    float* accumulated = scratch(1, kQueries * D);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t block = task % blocks, h = task / blocks % H, b = task / blocks / H;
      const std::int64_t t = block * kQueries, rows = std::min(kQueries, T - t);
      const std::int32_t* begin = visible.begin.const_data_ptr<int>() + b * T + t;
      const std::int32_t* end = visible.end.const_data_ptr<int>() + b * T + t;
      float row_max[kQueries], row_sum[kQueries];
      std::fill_n(row_max, kQueries, -std::numeric_limits<float>::infinity());
      std::fill_n(row_sum, kQueries, 0.0f);
      std::fill_n(accumulated, rows * D, 0.0f);
      const Range range = range_of(begin, end, rows);
      for (std::int64_t s = range.begin; s < range.end; s += kKeys) {
        const std::int64_t keys = std::min(kKeys, range.end - s);
        multiply(rows, keys, D, scale, {q.at(b, t, h), q.stride}, {k.at(b, s, h / group), k.stride, Layout::kTransposed}, 0, scores, kKeys);
        simd().attention_softmax({scores, rows, keys, kKeys, s, begin, end, soft_cap}, row_max, row_sum, accumulated, D);
        multiply(rows, D, keys, 1, {scores, kKeys}, {v.at(b, s, h / group), v.stride}, 1, accumulated, D);
      }
      simd().attention_finish(accumulated, row_max, row_sum, rows, D, out.at(b, t, h), out.stride, log_sum + (b * H + h) * T + t);
    }
  });
  return saved;
}

struct Gradients {
  Tensor q, k, v;  // float32
};

// The queries of one block of one head, against the keys that they see.
struct BackwardTask {
  std::int64_t b, h, block;
};

struct BackwardInputs {
  Shape shape;
  const Heads &q, &k, &v, &out, &grad_out;
  const float* log_sum;
  const Visible& visible;
  float scale, soft_cap;
};

void run_backward_task(const BackwardInputs& in, const BackwardTask& task, const Heads& grad_q, const Heads& grad_k, const Heads& grad_v) {
  const auto [B, T, S, H, K, D] = in.shape;
  const auto [b, h, block] = task;
  const std::int64_t kv = h / in.shape.group(), t = block * kQueries, rows = std::min(kQueries, T - t);
  float *scores = scratch(0, kQueries * kKeys), *grads = scratch(2, kQueries * kKeys);
  const std::int32_t* begin = in.visible.begin.const_data_ptr<int>() + b * T + t;
  const std::int32_t* end = in.visible.end.const_data_ptr<int>() + b * T + t;
  float delta[kQueries];
  for (std::int64_t r = 0; r < rows; ++r) delta[r] = simd().dot(in.out.at(b, t + r, h), in.grad_out.at(b, t + r, h), D);
  const Matrix q{in.q.at(b, t, h), in.q.stride}, grad_out{in.grad_out.at(b, t, h), in.grad_out.stride};
  const Range range = range_of(begin, end, rows);
  for (std::int64_t s = range.begin; s < range.end; s += kKeys) {
    const std::int64_t keys = std::min(kKeys, range.end - s);
    const Matrix k{in.k.at(b, s, kv), in.k.stride}, k_transposed{k.data, k.stride, Layout::kTransposed};
    const Matrix v_transposed{in.v.at(b, s, kv), in.v.stride, Layout::kTransposed};
    multiply(rows, keys, D, in.scale, q, k_transposed, 0, scores, kKeys);
    multiply(rows, keys, D, 1, grad_out, v_transposed, 0, grads, kKeys);
    simd().attention_softmax_backward({scores, rows, keys, kKeys, s, begin, end, in.soft_cap}, grads, in.log_sum + (b * H + h) * T + t, delta, in.scale);
    multiply(keys, D, rows, 1, {scores, kKeys, Layout::kTransposed}, grad_out, 1, grad_v.at(b, s, kv), grad_v.stride);
    multiply(rows, D, keys, 1, {grads, kKeys}, k, 1, grad_q.at(b, t, h), grad_q.stride);
    multiply(keys, D, rows, 1, {grads, kKeys, Layout::kTransposed}, q, 1, grad_k.at(b, s, kv), grad_k.stride);
  }
}

// A key head's gradients are summed by one thread, in the order of heads and blocks: the same bits at any number of threads.
Gradients run_backward(const BackwardInputs& in) {
  const auto [B, T, S, H, K, D] = in.shape;
  Gradients result{at::zeros({B, T, H, D}, at::kFloat), at::zeros({B, S, K, D}, at::kFloat), at::zeros({B, S, K, D}, at::kFloat)};
  const Heads grad_q(result.q), grad_k(result.k), grad_v(result.v);
  const std::int64_t blocks = in.shape.blocks(), group = in.shape.group();
  parallel_for(0, B * K, grain_of(5 * group * T * S * D), [&](std::int64_t first, std::int64_t last) {
    const OneThread one_thread;
    for (std::int64_t task = first; task < last; ++task) {
      for (std::int64_t h = task % K * group; h < (task % K + 1) * group; ++h) {
        for (std::int64_t block = 0; block < blocks; ++block) run_backward_task(in, {task / K, h, block}, grad_q, grad_k, grad_v);
      }
    }
  });
  return result;
}

class TiledAttention : public torch::autograd::Function<TiledAttention> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const Shape shape{q.size(0), q.size(1), k.size(1), q.size(2), k.size(2), q.size(3)};
    const Visible visible = visible_keys(shape.batch, shape.queries, shape.keys, options);
    const Saved saved = run_forward(shape, Heads(q.to(at::kFloat)), Heads(k.to(at::kFloat)), Heads(v.to(at::kFloat)), visible,
                                    static_cast<float>(options.scale), static_cast<float>(options.soft_cap));
    const Tensor out = saved.out.to(q.scalar_type());
    context->save_for_backward({q, k, v, out, saved.log_sum, visible.begin, visible.end});
    context->saved_data["scale"] = options.scale;
    context->saved_data["soft_cap"] = options.soft_cap;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const auto wide = [](const Tensor& tensor) { return Heads(tensor.to(at::kFloat)); };
    const Heads wide_q = wide(q), wide_k = wide(k), wide_v = wide(v), out = wide(saved[3]), grad_out = wide(grads[0]);
    const Visible visible{saved[5], saved[6]};
    const Gradients result = run_backward({{q.size(0), q.size(1), k.size(1), q.size(2), k.size(2), q.size(3)},
                                           wide_q,
                                           wide_k,
                                           wide_v,
                                           out,
                                           grad_out,
                                           saved[4].const_data_ptr<float>(),
                                           visible,
                                           static_cast<float>(context->saved_data["scale"].toDouble()),
                                           static_cast<float>(context->saved_data["soft_cap"].toDouble())});
    return {result.q.to(q.scalar_type()), result.k.to(k.scalar_type()), result.v.to(v.scalar_type()), Tensor()};
  }
};

}  // namespace

bool has_tiled_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  if (!have_loops({q, k, v}) || q.numel() == 0 || k.numel() == 0) return false;
  std::vector<std::int32_t> begin, end;
  return !options.segment_ids.defined() || segment_runs(options.segment_ids, begin, end);
}

Tensor tiled_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  return TiledAttention::apply(q, k, v, options);
}

}  // namespace oumi::kernels::cpu
