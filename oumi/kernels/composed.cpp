#include "oumi/kernels/composed.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>

#include "oumi/kernels/checks.h"

namespace oumi::kernels::composed {

Tensor rms_norm(const Tensor& x, const Tensor& weight, const RmsNormOptions& options) {
  const Tensor wide = x.to(accumulation_type(x.scalar_type()));
  const Tensor normed = wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + options.eps);
  if (options.unit_offset) return (normed * (weight.to(wide.scalar_type()) + 1.0)).to(x.scalar_type());
  return weight * normed.to(x.scalar_type());
}

Tensor swiglu(const Tensor& gate, const Tensor& up) { return at::silu(gate) * up; }

Tensor geglu(const Tensor& gate, const Tensor& up) { return at::gelu(gate, "tanh") * up; }

Tensor conv_relu_pool(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return at::max_pool2d(at::relu(at::conv2d(x, weight, bias)), {2, 2});
}

namespace {

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const std::int64_t half = cos.size(-1), width = x.size(-1);
  const Tensor wide = x.to(accumulation_type(x.scalar_type()));
  const Tensor first = wide.narrow(-1, 0, half), second = wide.narrow(-1, half, half);
  std::vector<Tensor> parts{first * cos - second * sin, second * cos + first * sin};
  if (2 * half < width) parts.push_back(wide.narrow(-1, 2 * half, width - 2 * half));
  return at::cat(parts, -1).to(x.scalar_type());
}

// The keys that any of the queries [first, last) may see by position: [begin, end).
struct KeyRange {
  std::int64_t begin, end;
};

KeyRange visible_keys(const AttentionOptions& options, std::int64_t first, std::int64_t last, std::int64_t keys) {
  KeyRange range{0, keys};
  if (options.causal) range.end = std::min(keys, options.key_offset + last);
  if (options.sliding_window > 0)
    range.begin = std::max<std::int64_t>(0, options.key_offset + first - options.sliding_window + 1);
  range.begin = std::min(range.begin, range.end);
  return range;
}

// Which keys of the range each of the queries [first, last) sees: bool, broadcastable to [batch, 1, queries, keys]. Undefined
// when every query sees every key.
Tensor visibility(const AttentionOptions& options, std::int64_t first, std::int64_t last, KeyRange range, c10::Device device) {
  const auto positions = at::TensorOptions().dtype(at::kLong).device(device);
  const Tensor query = at::arange(options.key_offset + first, options.key_offset + last, positions).unsqueeze(1);
  const Tensor key = at::arange(range.begin, range.end, positions).unsqueeze(0);
  Tensor seen;
  if (options.causal) seen = key.le(query);
  if (options.sliding_window > 0) seen = seen.logical_and(key.gt(query - options.sliding_window));
  if (options.segment_ids.defined()) {
    const Tensor query_segment =
        options.segment_ids.narrow(1, options.key_offset + first, last - first).unsqueeze(1).unsqueeze(3);
    const Tensor key_segment = options.segment_ids.narrow(1, range.begin, range.end - range.begin).unsqueeze(1).unsqueeze(2);
    const Tensor same = query_segment.eq(key_segment).logical_and(query_segment.ge(0));
    seen = seen.defined() ? seen.logical_and(same) : same;
  }
  return seen;
}

// One block of queries in plain operations. q [batch, heads, query, head_dim], k and v the visible keys [batch, heads, key,
// head_dim].
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& seen, const AttentionOptions& options) {
  Tensor scores = at::matmul(q, k.transpose(-2, -1)).to(accumulation_type(q.scalar_type())) * options.scale;
  if (options.soft_cap > 0) scores = at::tanh(scores / options.soft_cap) * options.soft_cap;
  if (!seen.defined()) return at::matmul(at::softmax(scores, -1).to(v.scalar_type()), v);
  // A finite filler: a row of -inf alone would be NaN, and its gradient too.
  const Tensor hidden = seen.logical_not();
  const Tensor probabilities = at::softmax(scores.masked_fill(hidden, std::numeric_limits<float>::lowest()), -1);
  return at::matmul(probabilities.masked_fill(hidden, 0).to(v.scalar_type()), v);
}

bool fits_scaled_dot_product(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  if (options.soft_cap > 0 || options.segment_ids.defined()) return false;
  if (options.sliding_window > 0 && options.sliding_window < k.size(1)) return false;
  // Its causal form takes the first query to stand at the first key.
  return !options.causal || (options.key_offset == 0 && q.size(1) == k.size(1)) ||
         (q.size(1) == 1 && options.key_offset + 1 == k.size(1));
}

}  // namespace

std::pair<Tensor, Tensor> apply_rotary(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  const auto wide = accumulation_type(q.scalar_type());
  const Tensor cos_heads = cos.unsqueeze(-2).to(wide), sin_heads = sin.unsqueeze(-2).to(wide);
  return {rotate(q, cos_heads, sin_heads), rotate(k, cos_heads, sin_heads)};
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  const Tensor query = q.transpose(1, 2);
  Tensor key = k.transpose(1, 2), value = v.transpose(1, 2);
  if (const std::int64_t group = q.size(2) / std::max<std::int64_t>(k.size(2), 1); group > 1) {
    key = key.repeat_interleave(group, 1);
    value = value.repeat_interleave(group, 1);
  }
  if (fits_scaled_dot_product(q, k, options)) {
    const bool causal = options.causal && q.size(1) > 1;
    return at::scaled_dot_product_attention(query, key, value, /*attn_mask=*/{}, /*dropout_p=*/0.0, causal, options.scale)
        .transpose(1, 2);
  }
  constexpr std::int64_t kBlock = 128;
  std::vector<Tensor> blocks;
  for (std::int64_t first = 0; first < q.size(1); first += kBlock) {
    const std::int64_t last = std::min(q.size(1), first + kBlock);
    const KeyRange range = visible_keys(options, first, last, k.size(1));
    const std::int64_t keys = range.end - range.begin;
    const Tensor seen = visibility(options, first, last, range, q.device());
    blocks.push_back(attend(query.narrow(2, first, last - first), key.narrow(2, range.begin, keys),
                            value.narrow(2, range.begin, keys), seen, options));
  }
  return blocks.empty() ? at::zeros_like(q) : at::cat(blocks, 2).transpose(1, 2);
}

}  // namespace oumi::kernels::composed
