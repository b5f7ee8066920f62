#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "oumi/kernels/cpu/attention_tiles.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels::cpu {
namespace {

void widen(const float* from, float* to, std::int64_t size) { std::copy_n(from, size, to); }
void widen(const BFloat16* from, float* to, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) to[i] = __builtin_bit_cast(float, static_cast<std::uint32_t>(from[i].bits) << 16);
}
void finish(const float* finished, float* out, std::int64_t size) { std::copy_n(finished, size, out); }
void finish(const float* finished, BFloat16* out, std::int64_t size) { simd().narrow(finished, out, size); }

// The softmax of a run of keys for a group's heads: sums [group, head_dim], and each row's largest score and denominator.
struct Part {
  float *sums, *row_max, *row_sum;
};

// Parts of all groups, of as many tiles of keys as any query sees. Tiles begin at the first key that a query sees, so that its
// result does not depend on what is before it.
class Parts {
 public:
  Parts(const AttentionShape& shape, std::int64_t tiles)
      : tiles_(tiles),
        group_(shape.group()),
        head_dim_(shape.head_dim),
        memory_(scratch<float>(4, shape.batch * shape.queries * shape.kv_heads * tiles * size())) {}

  // `group`: (batch, query, key head).
  Part at(std::int64_t group, std::int64_t tile) const {
    float* sums = memory_ + (group * tiles_ + tile) * size();
    return {sums, sums + group_ * head_dim_, sums + group_ * (head_dim_ + 1)};
  }

  // Row `row` of a group, of all tiles: into its first part.
  void merge(std::int64_t group, std::int64_t row) const {
    const Part into = at(group, 0);
    float* sums = into.sums + row * head_dim_;
    for (std::int64_t tile = 1; tile < tiles_; ++tile) {
      const Part from = at(group, tile);
      if (from.row_sum[row] == 0) continue;
      const float largest = std::max(into.row_max[row], from.row_max[row]);
      const float kept = std::exp(into.row_max[row] - largest), added = std::exp(from.row_max[row] - largest);
      for (std::int64_t i = 0; i < head_dim_; ++i) sums[i] = sums[i] * kept + from.sums[row * head_dim_ + i] * added;
      into.row_sum[row] = into.row_sum[row] * kept + from.row_sum[row] * added;
      into.row_max[row] = largest;
    }
  }

 private:
  std::int64_t size() const { return group_ * (head_dim_ + 2); }

  std::int64_t tiles_, group_, head_dim_;
  float* memory_;
};

template <class T>
AttentionResult forward_of(const Tensor& query, const Tensor& key, const Tensor& value, const Visible& visible,
                           const ScoreOptions& options) {
  const AttentionShape shape = shape_of(query, key);
  const std::int64_t queries = shape.queries, heads = shape.heads, kv_heads = shape.kv_heads, head_dim = shape.head_dim;
  const std::int64_t group = shape.group(), groups = shape.batch * queries * kv_heads;
  const RowLoops<T>& loops = simd().loops<T>();
  const Heads<T> q(query), k(key), v(value);
  AttentionResult result{at::empty({shape.batch, queries, heads, head_dim}, query.options()),
                         at::empty({shape.batch, heads, queries}, at::kFloat)};
  const Heads<T> out(result.out);
  float* log_sum = result.log_sum.mutable_data_ptr<float>();
  const std::int32_t *begins = visible.begin.const_data_ptr<int>(), *ends = visible.end.const_data_ptr<int>();
  std::int64_t most = 1;
  for (std::int64_t row = 0; row < shape.batch * queries; ++row) most = std::max<std::int64_t>(most, ends[row] - begins[row]);
  const std::int64_t tiles = divided_up(most, kKeys);
  const Parts parts(shape, tiles);

  parallel_for(0, groups * tiles, grain_of(4 * group * kKeys * head_dim), [&](std::int64_t first, std::int64_t last) {
    float *rows = scratch<float>(0, group * head_dim), *scores = scratch<float>(1, group * kKeys);
    std::int32_t *seen_begin = scratch<std::int32_t>(0, group), *seen_end = scratch<std::int32_t>(1, group);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t tile = task % tiles, at = task / tiles, kv = at % kv_heads, row = at / kv_heads;
      const std::int64_t t = row % queries, b = row / queries;
      const std::int64_t begin = begins[row] + tile * kKeys, keys = std::min<std::int64_t>(kKeys, ends[row] - begin);
      const Part part = parts.at(at, tile);
      std::fill_n(part.sums, group * head_dim, 0.0f);
      std::fill_n(part.row_max, group, -std::numeric_limits<float>::infinity());
      std::fill_n(part.row_sum, group, 0.0f);
      if (keys <= 0) continue;
      for (std::int64_t h = 0; h < group; ++h) widen(q.at(b, t, kv * group + h), rows + h * head_dim, head_dim);
      loops.few_rows({rows, k.at(b, begin, kv), scores, group, head_dim, k.stride, kKeys}, 0, keys);
      std::fill_n(seen_begin, group, static_cast<std::int32_t>(begin));
      std::fill_n(seen_end, group, static_cast<std::int32_t>(begin + keys));
      simd().attention_softmax({scores, group, keys, kKeys, begin, seen_begin, seen_end, options.soft_cap, options.scale},
                               part.row_max, part.row_sum, part.sums, head_dim);
      loops.weighted_sums({scores, v.at(b, begin, kv), part.sums, group, keys, head_dim, kKeys, v.stride});
    }
  });

  parallel_for(0, groups * group, grain_of(4 * tiles * head_dim), [&](std::int64_t first, std::int64_t last) {
    float* finished = scratch<float>(3, head_dim);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t at = task / group, in_group = task % group, row = at / kv_heads, h = at % kv_heads * group + in_group;
      const std::int64_t t = row % queries, b = row / queries;
      parts.merge(at, in_group);
      const Part part = parts.at(at, 0);
      simd().attention_finish(part.sums + in_group * head_dim, part.row_max + in_group, part.row_sum + in_group, 1, head_dim,
                              finished, head_dim, log_sum + (b * heads + h) * queries + t);
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
