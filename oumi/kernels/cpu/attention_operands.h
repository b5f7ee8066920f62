// The products of attention's float32 tiles, in two forms: by the BLAS inside LibTorch on operands where they lie, and by
// strips (simd_blocks.h) on keys and values packed once for all queries.
//
// A tile is [queries, kTileStride] floats; of its columns those of the keys from `place.first` on are meant.
#pragma once

#include "oumi/kernels/cpu/attention_tiles.h"
#include "oumi/kernels/cpu/matmul.h"

namespace oumi::kernels::cpu {

// A cache line more than its keys take, so that a column of a tile does not fall on a few sets of the cache.
constexpr std::int64_t kTileStride = kKeys + 16;
// Strips of keys begin at multiples of this: so must tiles.
constexpr std::int64_t kTileStep = 16;

struct KeyPlace {
  std::int64_t b, kv, first, count;
};

// Which products keys (or values) are needed for.
struct KeyUses {
  bool with_rows = false, with_tiles = false;
};

// Keys or values [batch, key, kv_heads, head_dim].
class BlasKeys {
 public:
  BlasKeys(const Heads<float>& keys, const AttentionShape& shape, KeyUses) : keys_(keys), head_dim_(shape.head_dim) {}
  // tile = rows keys^T, for `count` rows of head_dim.
  void multiply_rows(const float* rows, std::int64_t stride, std::int64_t count, const KeyPlace& place, float* tile) const;
  // out [count, head_dim] += tile keys.
  void add_tile(const float* tile, std::int64_t count, const KeyPlace& place, float* out, std::int64_t stride) const;

 private:
  const Heads<float>& keys_;
  std::int64_t head_dim_;
};

class StripKeys {
 public:
  StripKeys(const Heads<float>& keys, const AttentionShape& shape, KeyUses uses);
  void multiply_rows(const float* rows, std::int64_t stride, std::int64_t count, const KeyPlace& place, float* tile) const;
  void add_tile(const float* tile, std::int64_t count, const KeyPlace& place, float* out, std::int64_t stride) const;

 private:
  struct Packed {
    Tensor values;
    std::int64_t head_size;
  };
  const float* head(const Packed& packed, const KeyPlace& place) const;

  std::int64_t keys_, kv_heads_, head_dim_;
  Packed transposed_;  // [batch, kv_heads, strips of keys, head_dim, 16]
  Packed plain_;       // [batch, kv_heads, strips of head_dim, keys, 16]
};

// A block's rows of one head, [count, head_dim]: queries, or their gradients.
class BlasRows {
 public:
  BlasRows(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim, std::size_t)
      : rows_(rows), stride_(stride), count_(count), head_dim_(head_dim) {}
  // out [keys, head_dim] += tile^T rows.
  void add_transposed_tile(const float* tile, std::int64_t keys, float* out, std::int64_t stride) const;

 private:
  const float* rows_;
  std::int64_t stride_, count_, head_dim_;
};

class StripRows {
 public:
  // The packed rows lie in the thread's scratch number `slot`.
  StripRows(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim, std::size_t slot);
  void add_transposed_tile(const float* tile, std::int64_t keys, float* out, std::int64_t stride) const;

 private:
  const float* packed_;
  std::int64_t count_, head_dim_;
};

struct ByBlas {
  using Keys = BlasKeys;
  using Rows = BlasRows;
};

struct ByStrips {
  using Keys = StripKeys;
  using Rows = StripRows;
};

}  // namespace oumi::kernels::cpu
