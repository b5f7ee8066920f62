// The autograd function and the choice of a form; the loops are in attention_float32.cpp, attention_bfloat16.cpp and
// attention_few_queries.cpp.
#include "oumi/kernels/cpu/attention.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <unordered_set>

#include "oumi/kernels/cpu/attention_tiles.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The run of equal ids that each position lies in, as int32 [batch, position] pairs; padding has an empty one. False when an id
// comes back after another.
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

// bfloat16 without instructions for its products: as float32 values.
bool by_bfloat16(const Tensor& q) { return q.scalar_type() == at::kBFloat16 && has_bfloat16_attention(q.size(1), q.size(3)); }

class TiledAttention : public torch::autograd::Function<TiledAttention> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionOptions& options) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const Visible visible = visible_keys(q.size(0), q.size(1), k.size(1), options);
    const ScoreOptions scores{static_cast<float>(options.scale), static_cast<float>(options.soft_cap)};
    AttentionResult result;
    if (by_bfloat16(q)) {
      result = attention_forward_bfloat16(q, k, v, visible, scores);
    } else if (q.size(1) <= kFewQueries) {
      result = attention_forward_few_queries(q, k, v, visible, scores);
    } else {
      result = attention_forward_float32(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), visible, scores);
      result.out = result.out.to(q.scalar_type());
    }
    context->save_for_backward({q, k, v, result.out, result.log_sum, visible.begin, visible.end});
    context->saved_data["scale"] = options.scale;
    context->saved_data["soft_cap"] = options.soft_cap;
    return result.out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &log_sum = saved[4];
    const Visible visible{saved[5], saved[6]};
    const ScoreOptions scores{static_cast<float>(context->saved_data["scale"].toDouble()),
                              static_cast<float>(context->saved_data["soft_cap"].toDouble())};
    if (by_bfloat16(q)) {
      const AttentionGradients result =
          attention_backward_bfloat16(q, k, v, {out, log_sum}, grads[0].to(at::kBFloat16), visible, scores);
      return {result.q, result.k, result.v, Tensor()};
    }
    const auto wide = [](const Tensor& tensor) { return tensor.to(at::kFloat); };
    const AttentionGradients result =
        attention_backward_float32(wide(q), wide(k), wide(v), {wide(out), log_sum}, wide(grads[0]), visible, scores);
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
