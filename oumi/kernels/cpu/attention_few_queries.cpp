#include <ATen/ops/empty.h>

#include "oumi/kernels/cpu/attention_tiles.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels::cpu {

AttentionResult attention_forward_few_queries(const Tensor& query, const Tensor& key, const Tensor& value,
                                              const Visible& visible, const ScoreOptions& options) {
  const auto [B, T, S, H, K, D] = shape_of(query, key);
  const Heads<BFloat16> q(query), k(key), v(value);
  AttentionResult result{at::empty({B, T, H, D}, at::kBFloat16), at::empty({B, H, T}, at::kFloat)};
  const Heads<BFloat16> out(result.out);
  float* log_sum = result.log_sum.mutable_data_ptr<float>();
  const std::int64_t group = H / K;
  parallel_for(0, B * H * T, grain_of(4 * S * D), [&](std::int64_t first, std::int64_t last) {
    float *scores = scratch<float>(0, kKeys), *accumulated = scratch<float>(1, D), *finished = scratch<float>(3, D);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t t = task % T, h = task / T % H, b = task / T / H, kv = h / group;
      const std::int32_t* begin = visible.begin.const_data_ptr<int>() + b * T + t;
      const std::int32_t* end = visible.end.const_data_ptr<int>() + b * T + t;
      float row_max = -std::numeric_limits<float>::infinity(), row_sum = 0;
      std::fill_n(accumulated, D, 0.0f);
      for (std::int64_t s = *begin; s < *end; s += kKeys) {
        const std::int64_t keys = std::min<std::int64_t>(kKeys, *end - s);
        for (std::int64_t i = 0; i < keys; ++i) scores[i] = simd().dot_bfloat16(q.at(b, t, h), k.at(b, s + i, kv), D);
        simd().attention_softmax({scores, 1, keys, kKeys, s, begin, end, options.soft_cap, options.scale}, &row_max, &row_sum,
                                 accumulated, D);
        for (std::int64_t i = 0; i < keys; ++i) simd().add_scaled_bfloat16(v.at(b, s + i, kv), scores[i], accumulated, D);
      }
      simd().attention_finish(accumulated, &row_max, &row_sum, 1, D, finished, D, log_sum + (b * H + h) * T + t);
      simd().narrow(finished, out.at(b, t, h), D);
    }
  });
  return result;
}

}  // namespace oumi::kernels::cpu
