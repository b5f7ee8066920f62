#include <ATen/ops/empty.h>

#include "oumi/kernels/cpu/attention_tiles.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels::cpu {
namespace {

void finish(const float* finished, float* out, std::int64_t size) { std::copy_n(finished, size, out); }
void finish(const float* finished, BFloat16* out, std::int64_t size) { simd().narrow(finished, out, size); }

template <class T>
AttentionResult forward_of(const Tensor& query, const Tensor& key, const Tensor& value, const Visible& visible,
                           const ScoreOptions& options) {
  const AttentionShape shape = shape_of(query, key);
  const std::int64_t queries = shape.queries, heads = shape.heads, head_dim = shape.head_dim, group = shape.group();
  const RowLoops<T>& loops = simd().loops<T>();
  const Heads<T> q(query), k(key), v(value);
  AttentionResult result{at::empty({shape.batch, queries, heads, head_dim}, query.options()),
                         at::empty({shape.batch, heads, queries}, at::kFloat)};
  const Heads<T> out(result.out);
  float* log_sum = result.log_sum.mutable_data_ptr<float>();
  const std::int64_t tasks = shape.batch * heads * queries, work = 4 * shape.keys * head_dim;
  parallel_for(0, tasks, grain_of(work), [&](std::int64_t first, std::int64_t last) {
    float *scores = scratch<float>(0, kKeys), *accumulated = scratch<float>(1, head_dim),
          *finished = scratch<float>(3, head_dim);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t t = task % queries, h = task / queries % heads, b = task / queries / heads, kv = h / group;
      const std::int32_t* begin = visible.begin.const_data_ptr<int>() + b * queries + t;
      const std::int32_t* end = visible.end.const_data_ptr<int>() + b * queries + t;
      float row_max = -std::numeric_limits<float>::infinity(), row_sum = 0;
      std::fill_n(accumulated, head_dim, 0.0f);
      for (std::int64_t s = *begin; s < *end; s += kKeys) {
        const std::int64_t keys = std::min<std::int64_t>(kKeys, *end - s);
        for (std::int64_t i = 0; i < keys; ++i) scores[i] = loops.dot(q.at(b, t, h), k.at(b, s + i, kv), head_dim);
        simd().attention_softmax({scores, 1, keys, kKeys, s, begin, end, options.soft_cap, options.scale}, &row_max, &row_sum,
                                 accumulated, head_dim);
        for (std::int64_t i = 0; i < keys; ++i) loops.add_scaled(v.at(b, s + i, kv), scores[i], accumulated, head_dim);
      }
      simd().attention_finish(accumulated, &row_max, &row_sum, 1, head_dim, finished, head_dim,
                              log_sum + (b * heads + h) * queries + t);
      finish(finished, out.at(b, t, h), head_dim);
    }
  });
  return result;
}

}  // namespace

AttentionResult attention_forward_few_queries(const Tensor& q, const Tensor& k, const Tensor& v, const Visible& visible,
                                              const ScoreOptions& options) {
  AttentionResult result;
  by_type(q.scalar_type(), [&](auto value) { result = forward_of<decltype(value)>(q, k, v, visible, options); });
  return result;
}

}  // namespace oumi::kernels::cpu
