// What the forms of tiled attention share: shapes, strides, and which keys a query sees.
//
// B batch, T query, S key, H heads, K kv_heads, D head_dim. Every mask that attention() knows lets a query see one run of keys,
// so that a row's mask is two numbers and whole tiles outside it are left out. Scores of a tile of kQueries x kKeys live in the
// cache of the thread that makes them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "oumi/kernels/cpu/scratch.h"
#include "oumi/kernels/cpu/simd.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels::cpu {

constexpr std::int64_t kQueries = 64, kKeys = 256;

// int32 [batch, query] each: query t sees the keys [begin, end).
struct Visible {
  Tensor begin, end;
};

struct AttentionShape {
  std::int64_t batch, queries, keys, heads, kv_heads, head_dim;
  std::int64_t group() const { return heads / kv_heads; }
  std::int64_t blocks() const { return (queries + kQueries - 1) / kQueries; }
};

// A [batch, position, heads, head_dim] tensor whose last dimension is packed.
template <class T>
struct Heads {
  explicit Heads(const Tensor& tensor)
      : holder(tensor.stride(3) == 1 && tensor.stride(1) >= tensor.size(3) ? tensor : tensor.contiguous()),
        data(static_cast<T*>(holder.data_ptr())),
        batch_stride(holder.stride(0)),
        stride(holder.stride(1)),
        head_stride(holder.stride(2)) {}
  T* at(std::int64_t batch, std::int64_t position, std::int64_t head) const {
    return data + batch * batch_stride + position * stride + head * head_stride;
  }

  Tensor holder;
  T* data;
  std::int64_t batch_stride, stride, head_stride;
};

// The keys that some query of a block sees.
struct KeyRange {
  std::int64_t begin, end;
};

inline KeyRange range_of(const std::int32_t* begin, const std::int32_t* end, std::int64_t rows) {
  KeyRange range{std::numeric_limits<std::int64_t>::max(), 0};
  for (std::int64_t row = 0; row < rows; ++row) {
    if (begin[row] >= end[row]) continue;
    range.begin = std::min<std::int64_t>(range.begin, begin[row]);
    range.end = std::max<std::int64_t>(range.end, end[row]);
  }
  return range.begin > range.end ? KeyRange{0, 0} : range;
}

// The scores' scale and cap.
struct ScoreOptions {
  float scale, soft_cap;
};

struct AttentionResult {
  Tensor out;      // [batch, query, heads, head_dim], of the inputs' dtype
  Tensor log_sum;  // float32 [batch, heads, query]
};

struct AttentionGradients {
  Tensor q, k, v;
};

// Whether the gradients of keys and values are summed for each query head and then added up, rather than for each key head by
// one thread: with few key heads, threads would be idle. It depends on sizes alone, so that the bits are the same at any number
// of threads.
inline bool sums_by_query_head(const AttentionShape& shape) {
  constexpr std::int64_t kFewKeyHeads = 8;
  return shape.group() > 1 && shape.batch * shape.kv_heads < kFewKeyHeads;
}

// The queries of one block of one head, against the keys that they see.
struct AttentionTask {
  std::int64_t b, h, block;
};

// float32 inputs.
AttentionResult attention_forward_float32(const Tensor& q, const Tensor& k, const Tensor& v, const Visible& visible,
                                          const ScoreOptions& options);
AttentionGradients attention_backward_float32(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionResult& result,
                                              const Tensor& grad_out, const Visible& visible, const ScoreOptions& options);

// bfloat16 inputs multiplied by bfloat16 instructions with float32 sums; probabilities and their gradients are rounded to
// bfloat16 before they are multiplied, as in LibTorch's own attention.
bool has_bfloat16_attention(std::int64_t queries, std::int64_t head_dim);
AttentionResult attention_forward_bfloat16(const Tensor& q, const Tensor& k, const Tensor& v, const Visible& visible,
                                           const ScoreOptions& options);
AttentionGradients attention_backward_bfloat16(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionResult& result,
                                               const Tensor& grad_out, const Visible& visible, const ScoreOptions& options);

// Inputs with a query or a few, as decoding has: keys and values are read once where they lie, sums are float32. The gradient
// is that of the float32 form.
constexpr std::int64_t kFewQueries = 4;
AttentionResult attention_forward_few_queries(const Tensor& q, const Tensor& k, const Tensor& v, const Visible& visible,
                                              const ScoreOptions& options);

inline AttentionShape shape_of(const Tensor& q, const Tensor& k) {
  return {q.size(0), q.size(1), k.size(1), q.size(2), k.size(2), q.size(3)};
}

}  // namespace oumi::kernels::cpu
