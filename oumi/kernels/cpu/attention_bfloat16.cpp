// Tiles of bfloat16 through LibTorch's batch-reduce products (oneDNN), whose right operand comes in pairs of rows: element i of
// a pair row holds rows 2 n and 2 n + 1 of column i in its low and high half.
//
// Products are made for few sizes, since each size is compiled once a thread: queries come in multiples of kQueryStep and keys
// in multiples of kKeyStep, filled up with zeros, and keys lie in blocks of kKeys that no tile crosses.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cstring>

#include "oumi/kernels/cpu/attention_tiles.h"
#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/matmul_bfloat16.h"

namespace oumi::kernels::cpu {
namespace {

constexpr std::int64_t kQueryStep = 16, kKeyStep = 64;

// The keys and values of one call as right operands, block after block of kKeys keys.
class PackedKeys {
 public:
  PackedKeys(const Tensor& source, bool transposed, bool plain)
      : heads_(source), keys_(source.size(1)), kv_heads_(source.size(2)), width_(source.size(3)) {
    blocks_ = (keys_ + kKeys - 1) / kKeys;
    const std::int64_t batch = source.size(0), size = batch * kv_heads_ * blocks_ * block_size();
    if (transposed) transposed_ = at::empty({size}, at::kInt);
    if (plain) plain_ = at::empty({size}, at::kInt);
    parallel_for(0, batch * kv_heads_ * blocks_, grain_of(kKeys * width_), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) pack(i / blocks_ / kv_heads_, i / blocks_ % kv_heads_, i % blocks_);
    });
  }

  // [head_dim, kKeys]: for products with rows of head_dim.
  const Pair* transposed(std::int64_t b, std::int64_t kv, std::int64_t block) const {
    return pointer<Pair>(transposed_) + at(b, kv, block);
  }
  // [kKeys, head_dim].
  const Pair* plain(std::int64_t b, std::int64_t kv, std::int64_t block) const {
    return pointer<Pair>(plain_) + at(b, kv, block);
  }

 private:
  std::int64_t block_size() const { return kKeys * width_ / 2; }
  std::int64_t at(std::int64_t b, std::int64_t kv, std::int64_t block) const {
    return ((b * kv_heads_ + kv) * blocks_ + block) * block_size();
  }

  void pack(std::int64_t b, std::int64_t kv, std::int64_t block) const {
    const std::int64_t first = block * kKeys, count = std::min(kKeys, keys_ - first);
    const auto row = [&](std::int64_t key) { return heads_.at(b, first + key, kv); };
    const StridedMatrix rows{row(0), count > 1 ? row(1) - row(0) : width_, 1};
    if (transposed_.defined()) {
      const StridedMatrix columns{rows.data, 1, rows.row_stride};
      pack_right(columns, width_, count, width_, kKeys, pointer<Pair>(transposed_) + at(b, kv, block), kKeys);
    }
    if (plain_.defined()) pack_right(rows, count, width_, kKeys, width_, pointer<Pair>(plain_) + at(b, kv, block), width_);
  }

  const Heads<BFloat16> heads_;
  std::int64_t keys_, kv_heads_, width_, blocks_;
  Tensor transposed_, plain_;
};

// A tile's place: keys [first, first + count) of a block, in whole steps.
struct KeyTile {
  std::int64_t block, first, count;
  std::int64_t key() const { return block * kKeys + first; }
};

// Calls action(tile) for the tiles that cover a range.
template <class Action>
void for_tiles(const KeyRange& range, Action&& action) {
  for (std::int64_t key = range.begin / kKeyStep * kKeyStep; key < range.end;) {
    const std::int64_t block = key / kKeys, end = std::min((block + 1) * kKeys, rounded_up(range.end, kKeyStep));
    action(KeyTile{block, key - block * kKeys, end - key});
    key = end;
  }
}

// Rows of head_dim, filled up with zeros to whole steps.
const BFloat16* copy_rows(const Heads<BFloat16>& from, std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t rows,
                          std::int64_t width, BFloat16* to) {
  for (std::int64_t row = 0; row < rows; ++row)
    std::memcpy(to + row * width, from.at(b, t + row, h), static_cast<std::size_t>(width) * sizeof(BFloat16));
  std::fill(to + rows * width, to + rounded_up(rows, kQueryStep) * width, BFloat16{0});
  return to;
}

// [rows, width] as [width, kQueries].
const BFloat16* transpose_rows(const BFloat16* from, std::int64_t rows, std::int64_t width, BFloat16* to) {
  for (std::int64_t row = 0; row < rounded_up(rows, kQueryStep); ++row) {
    for (std::int64_t i = 0; i < width; ++i) to[i * kQueries + row] = from[row * width + i];
  }
  return to;
}

void narrow_tile(const float* from, std::int64_t rows, std::int64_t columns, BFloat16* to) {
  for (std::int64_t row = 0; row < rows; ++row) simd().narrow(from + row * kKeys, to + row * kKeys, columns);
}

void narrow_tile_to_pairs(const float* from, std::int64_t rows, std::int64_t columns, Pair* to) {
  for (std::int64_t row = 0; row < rows; row += 2)
    simd().narrow_pairs(from + row * kKeys, from + (row + 1) * kKeys, to + row / 2 * kKeys, columns);
}

struct BFloat16Backward {
  AttentionShape shape;
  const Heads<BFloat16>&q, &out, &grad_out;
  const PackedKeys &k, &v;
  const float* log_sum;
  const Visible& visible;
  ScoreOptions options;
};

// A head's sums, [head_dim, kKeys] for each block.
struct KeyGradients {
  float *k, *v;
};

void run_backward_task(const BFloat16Backward& in, const AttentionTask& task, const Heads<BFloat16>& grad_q,
                       const KeyGradients& sums) {
  const auto [B, T, S, H, K, D] = in.shape;
  const auto [b, h, block] = task;
  const std::int64_t kv = h / in.shape.group(), t = block * kQueries, rows = std::min(kQueries, T - t),
                     filled = rounded_up(rows, kQueryStep);
  const std::int32_t* begin = in.visible.begin.const_data_ptr<int>() + b * T + t;
  const std::int32_t* end = in.visible.end.const_data_ptr<int>() + b * T + t;
  float *scores = scratch<float>(0, kQueries * kKeys), *grads = scratch<float>(2, kQueries * kKeys),
        *grad_rows = scratch<float>(1, kQueries * D);
  Pair *probability_pairs = scratch<Pair>(0, kQueries / 2 * kKeys), *grad_pairs = scratch<Pair>(1, kQueries / 2 * kKeys);
  BFloat16* narrow_grads = scratch<BFloat16>(0, kQueries * kKeys);
  const BFloat16* q = copy_rows(in.q, b, t, h, rows, D, scratch<BFloat16>(1, kQueries * D));
  const BFloat16* grad_out = copy_rows(in.grad_out, b, t, h, rows, D, scratch<BFloat16>(2, kQueries * D));
  const BFloat16* q_transposed = transpose_rows(q, rows, D, scratch<BFloat16>(3, kQueries * D));
  const BFloat16* grad_out_transposed = transpose_rows(grad_out, rows, D, scratch<BFloat16>(4, kQueries * D));
  float delta[kQueries];
  for (std::int64_t r = 0; r < rows; ++r)
    delta[r] = simd().bfloat16.dot(in.out.at(b, t + r, h), in.grad_out.at(b, t + r, h), D);
  std::fill_n(grad_rows, filled * D, 0.0f);
  for_tiles(range_of(begin, end, rows), [&](const KeyTile& tile) {
    const std::int64_t place = tile.block * D * kKeys + tile.first;
    tile_product(filled, tile.count, D, q, D, in.k.transposed(b, kv, tile.block) + tile.first, kKeys, false, scores, kKeys);
    tile_product(filled, tile.count, D, grad_out, D, in.v.transposed(b, kv, tile.block) + tile.first, kKeys, false, grads,
                 kKeys);
    simd().attention_softmax_backward(
        {scores, rows, tile.count, kKeys, tile.key(), begin, end, in.options.soft_cap, in.options.scale}, grads,
        in.log_sum + (b * H + h) * T + t, delta, in.options.scale);
    // Rows that fill up are zeros in q and grad_out, so whatever is in the scores of those adds nothing; but it has to be
    // finite.
    narrow_tile_to_pairs(scores, filled, tile.count, probability_pairs);
    narrow_tile_to_pairs(grads, filled, tile.count, grad_pairs);
    narrow_tile(grads, filled, tile.count, narrow_grads);
    tile_product(D, tile.count, filled, grad_out_transposed, kQueries, probability_pairs, kKeys, true, sums.v + place, kKeys);
    tile_product(D, tile.count, filled, q_transposed, kQueries, grad_pairs, kKeys, true, sums.k + place, kKeys);
    tile_product(filled, D, tile.count, narrow_grads, kKeys, in.k.plain(b, kv, tile.block) + tile.first / 2 * D, D, true,
                 grad_rows, D);
  });
  for (std::int64_t r = 0; r < rows; ++r) simd().narrow(grad_rows + r * D, grad_q.at(b, t + r, h), D);
}

// Rounds a key head's sums into its rows.
void write_key_gradients(const float* sums, std::int64_t b, std::int64_t kv, std::int64_t keys, std::int64_t width,
                         const Heads<BFloat16>& to) {
  float* row = scratch<float>(3, width);
  for (std::int64_t key = 0; key < keys; ++key) {
    const float* column = sums + key / kKeys * width * kKeys + key % kKeys;
    for (std::int64_t i = 0; i < width; ++i) row[i] = column[i * kKeys];
    simd().narrow(row, to.at(b, key, kv), width);
  }
}

}  // namespace

bool has_bfloat16_attention(std::int64_t queries, std::int64_t head_dim) {
  // A few queries, as in decoding, are not worth packing all keys for.
  return queries >= kQueryStep && head_dim % 2 == 0 && has_tile_products();
}

AttentionResult attention_forward_bfloat16(const Tensor& query, const Tensor& key, const Tensor& value, const Visible& visible,
                                           const ScoreOptions& options) {
  const AttentionShape shape = shape_of(query, key);
  const auto [B, T, S, H, K, D] = shape;
  const Heads<BFloat16> q(query);
  const PackedKeys k(key, /*transposed=*/true, /*plain=*/false), v(value, /*transposed=*/false, /*plain=*/true);
  AttentionResult result{at::empty({B, T, H, D}, at::kBFloat16), at::empty({B, H, T}, at::kFloat)};
  const Heads<BFloat16> out(result.out);
  float* log_sum = result.log_sum.mutable_data_ptr<float>();
  const std::int64_t blocks = shape.blocks(), group = shape.group();
  parallel_for(0, B * H * blocks, grain_of(2 * std::min(kQueries, T) * S * D), [&](std::int64_t first, std::int64_t last) {
    const TileRegisters registers;
    float *scores = scratch<float>(0, kQueries * kKeys), *accumulated = scratch<float>(1, kQueries * D),
          *finished = scratch<float>(3, kQueries * D);
    BFloat16* probabilities = scratch<BFloat16>(0, kQueries * kKeys);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t block = task % blocks, h = task / blocks % H, b = task / blocks / H, kv = h / group;
      const std::int64_t t = block * kQueries, rows = std::min(kQueries, T - t), filled = rounded_up(rows, kQueryStep);
      const std::int32_t* begin = visible.begin.const_data_ptr<int>() + b * T + t;
      const std::int32_t* end = visible.end.const_data_ptr<int>() + b * T + t;
      const BFloat16* q_rows = copy_rows(q, b, t, h, rows, D, scratch<BFloat16>(1, kQueries * D));
      float row_max[kQueries], row_sum[kQueries];
      std::fill_n(row_max, kQueries, -std::numeric_limits<float>::infinity());
      std::fill_n(row_sum, kQueries, 0.0f);
      std::fill_n(accumulated, filled * D, 0.0f);
      for_tiles(range_of(begin, end, rows), [&](const KeyTile& tile) {
        tile_product(filled, tile.count, D, q_rows, D, k.transposed(b, kv, tile.block) + tile.first, kKeys, false, scores,
                     kKeys);
        simd().attention_softmax({scores, rows, tile.count, kKeys, tile.key(), begin, end, options.soft_cap, options.scale},
                                 row_max, row_sum, accumulated, D);
        narrow_tile(scores, filled, tile.count, probabilities);
        tile_product(filled, D, tile.count, probabilities, kKeys, v.plain(b, kv, tile.block) + tile.first / 2 * D, D, true,
                     accumulated, D);
      });
      simd().attention_finish(accumulated, row_max, row_sum, rows, D, finished, D, log_sum + (b * H + h) * T + t);
      for (std::int64_t r = 0; r < rows; ++r) simd().narrow(finished + r * D, out.at(b, t + r, h), D);
    }
  });
  return result;
}

// A head's gradients are summed by one thread, in the order of heads and blocks: the same bits at any number of threads.
AttentionGradients attention_backward_bfloat16(const Tensor& query, const Tensor& key, const Tensor& value,
                                               const AttentionResult& forward, const Tensor& grad, const Visible& visible,
                                               const ScoreOptions& options) {
  const Heads<BFloat16> q(query), out(forward.out), grad_out(grad);
  const PackedKeys k(key, /*transposed=*/true, /*plain=*/true), v(value, /*transposed=*/true, /*plain=*/false);
  const BFloat16Backward in{
      shape_of(query, key), q, out, grad_out, k, v, forward.log_sum.const_data_ptr<float>(), visible, options};
  const auto [B, T, S, H, K, D] = in.shape;
  AttentionGradients result{at::empty({B, T, H, D}, at::kBFloat16), at::empty({B, S, K, D}, at::kBFloat16),
                            at::empty({B, S, K, D}, at::kBFloat16)};
  const Heads<BFloat16> grad_q(result.q), grad_k(result.k), grad_v(result.v);
  const std::int64_t blocks = in.shape.blocks(), group = in.shape.group(), size = rounded_up(S, kKeys) * D;
  const bool by_query_head = sums_by_query_head(in.shape);
  const std::int64_t heads = by_query_head ? H : K, heads_per_task = H / heads;
  // Query heads' sums until they are added up: keys' of all heads, then values'.
  const Tensor parts = by_query_head ? at::empty({2, B * H, size}, at::kFloat) : Tensor();
  const auto part = [&](std::int64_t head) {
    return KeyGradients{pointer<float>(parts) + head * size, pointer<float>(parts) + (B * H + head) * size};
  };
  const auto write = [&](const KeyGradients& sums, std::int64_t b, std::int64_t kv) {
    write_key_gradients(sums.k, b, kv, S, D, grad_k);
    write_key_gradients(sums.v, b, kv, S, D, grad_v);
  };
  parallel_for(0, B * heads, grain_of(5 * heads_per_task * T * S * D), [&](std::int64_t first, std::int64_t last) {
    const TileRegisters registers;
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t b = task / heads, head = task % heads;
      const KeyGradients sums = by_query_head ? part(task) : KeyGradients{scratch<float>(4, size), scratch<float>(5, size)};
      std::fill_n(sums.k, size, 0.0f);
      std::fill_n(sums.v, size, 0.0f);
      for (std::int64_t h = head * heads_per_task; h < (head + 1) * heads_per_task; ++h) {
        for (std::int64_t block = 0; block < blocks; ++block) run_backward_task(in, {b, h, block}, grad_q, sums);
      }
      if (!by_query_head) write(sums, b, head);
    }
  });
  if (by_query_head) {
    parallel_for(0, B * K, grain_of(2 * group * size), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t task = first; task < last; ++task) {
        const KeyGradients sums = part(task * group);
        for (std::int64_t head = task * group + 1; head < (task + 1) * group; ++head) {
          simd().float32.add_scaled(part(head).k, 1.0f, sums.k, size);
          simd().float32.add_scaled(part(head).v, 1.0f, sums.v, size);
        }
        write(sums, task / K, task % K);
      }
    });
  }
  return result;
}

}  // namespace oumi::kernels::cpu
