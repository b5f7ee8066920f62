#include "oumi/kernels/cpu/attention_operands.h"

#include <ATen/ops/empty.h>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/simd_blocks.h"

namespace oumi::kernels::cpu {

static_assert(kTileStep == kStripColumns);

void BlasKeys::multiply_rows(const float* rows, std::int64_t stride, std::int64_t count, const KeyPlace& place,
                             float* tile) const {
  multiply(count, place.count, head_dim_, {rows, stride},
           {keys_.at(place.b, place.first, place.kv), keys_.stride, Layout::kTransposed}, 0, tile, kTileStride);
}

void BlasKeys::add_tile(const float* tile, std::int64_t count, const KeyPlace& place, float* out, std::int64_t stride) const {
  multiply(count, head_dim_, place.count, {tile, kTileStride}, {keys_.at(place.b, place.first, place.kv), keys_.stride}, 1, out,
           stride);
}

void BlasRows::add_transposed_tile(const float* tile, std::int64_t keys, float* out, std::int64_t stride) const {
  multiply(keys, head_dim_, count_, {tile, kTileStride, Layout::kTransposed}, {rows_, stride_}, 1, out, stride);
}

StripKeys::StripKeys(const Heads<float>& keys, const AttentionShape& shape, KeyUses uses)
    : keys_(shape.keys), kv_heads_(shape.kv_heads), head_dim_(shape.head_dim) {
  const std::int64_t heads = shape.batch * kv_heads_;
  const auto pack = [&](std::int64_t lines, std::int64_t inner, std::int64_t line_stride, std::int64_t inner_stride) {
    const std::int64_t size = rounded_up(lines, kStripColumns) * inner;
    const Packed packed{at::empty({heads * size}, at::kFloat), size};
    parallel_for(0, heads, grain_of(size), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        pack_columns(Lines<float>{keys.at(i / kv_heads_, 0, i % kv_heads_), line_stride, inner_stride}, lines, inner,
                     pointer<float>(packed.values) + i * size);
      }
    });
    return packed;
  };
  if (uses.with_rows) transposed_ = pack(keys_, head_dim_, keys.stride, 1);
  if (uses.with_tiles) plain_ = pack(head_dim_, keys_, 1, keys.stride);
}

const float* StripKeys::head(const Packed& packed, const KeyPlace& place) const {
  return pointer<float>(packed.values) + (place.b * kv_heads_ + place.kv) * packed.head_size;
}

void StripKeys::multiply_rows(const float* rows, std::int64_t stride, std::int64_t count, const KeyPlace& place,
                              float* tile) const {
  const float* strips = head(transposed_, place) + place.first * head_dim_;
  multiply_plain({{count, place.count, head_dim_, rows, strips, head_dim_ * kStripColumns, tile, kTileStride, /*add=*/false},
                  stride,
                  /*left_transposed=*/false});
}

void StripKeys::add_tile(const float* tile, std::int64_t count, const KeyPlace& place, float* out, std::int64_t stride) const {
  const float* strips = head(plain_, place) + place.first * kStripColumns;
  multiply_plain({{count, head_dim_, place.count, tile, strips, keys_ * kStripColumns, out, stride, /*add=*/true},
                  kTileStride,
                  /*left_transposed=*/false});
}

StripRows::StripRows(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t head_dim, std::size_t slot)
    : count_(count), head_dim_(head_dim) {
  float* packed = scratch<float>(slot, rounded_up(head_dim, kStripColumns) * count);
  pack_columns(Lines<float>{rows, 1, stride}, head_dim, count, packed);
  packed_ = packed;
}

void StripRows::add_transposed_tile(const float* tile, std::int64_t keys, float* out, std::int64_t stride) const {
  multiply_plain({{keys, head_dim_, count_, tile, packed_, count_ * kStripColumns, out, stride, /*add=*/true},
                  kTileStride,
                  /*left_transposed=*/true});
}

}  // namespace oumi::kernels::cpu
