#include "oumi/generation/growing_kv_cache.h"

#include <ATen/ops/empty.h>
#include <torch/types.h>

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

// A buffer for `capacity` tokens that starts with the first `length` tokens of `old`.
Tensor grown(const Tensor& old, const Tensor& like, std::int64_t capacity, std::int64_t length) {
  Tensor buffer = at::empty({like.size(0), capacity, like.size(2), like.size(3)}, like.options());
  if (length > 0) buffer.narrow(1, 0, length).copy_(old.narrow(1, 0, length));
  return buffer;
}

}  // namespace

std::pair<Tensor, Tensor> GrowingKvCache::append(std::int64_t layer, const Tensor& key, const Tensor& value) {
  const auto index = static_cast<std::size_t>(layer);
  if (index >= layers_.size()) layers_.resize(index + 1);
  Layer& stored = layers_[index];
  const std::int64_t wanted = length_ + key.size(1);
  if (!stored.key.defined() || stored.key.size(1) < wanted) {
    const std::int64_t before = stored.key.defined() ? stored.key.size(1) : 0;
    const std::int64_t capacity = std::max({wanted, before + before / 2, first_capacity_});
    stored.key = grown(stored.key, key, capacity, length_);
    stored.value = grown(stored.value, value, capacity, length_);
  }
  if (stored.key.size(0) != key.size(0)) {
    throw InternalError(cat("key-value cache: expected ", stored.key.size(0), " sequences in the batch, got ", key.size(0)));
  }
  stored.key.narrow(1, length_, key.size(1)).copy_(key);
  stored.value.narrow(1, length_, key.size(1)).copy_(value);
  return {stored.key.narrow(1, 0, wanted), stored.value.narrow(1, 0, wanted)};
}

void GrowingKvCache::truncate(std::int64_t length) { length_ = std::min(length_, length); }

void GrowingKvCache::keep_rows(const Tensor& rows) {
  for (Layer& layer : layers_) {
    layer.key = layer.key.index_select(0, rows);
    layer.value = layer.value.index_select(0, rows);
  }
}

std::uint64_t GrowingKvCache::bytes() const {
  std::uint64_t total = 0;
  for (const Layer& layer : layers_) total += layer.key.nbytes() + layer.value.nbytes();
  return total;
}

}  // namespace oumi
