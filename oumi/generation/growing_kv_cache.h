// The key-value cache that generation uses.
#pragma once

#include <vector>

#include "oumi/nn/kv_cache.h"

namespace oumi {

// One buffer a layer for keys and one for values, [batch, capacity, kv_heads, head_dim], in the dtype of the first keys.
// Capacity grows by half when it is used up, so a token costs O(1) copies; at the peak of a growth one layer's buffers exist
// twice.
class GrowingKvCache : public nn::KvCache {
 public:
  // `capacity`: tokens to make room for at first, at least 1.
  explicit GrowingKvCache(std::int64_t capacity) : first_capacity_(capacity) {}

  std::pair<Tensor, Tensor> append(std::int64_t layer, const Tensor& key, const Tensor& value) override;
  std::int64_t length() const override { return length_; }

  // Ends a forward of `tokens` new tokens. Call once after it; until then length() is that of before.
  void advance(std::int64_t tokens) { length_ += tokens; }
  // Drops what is past the first `length` tokens.
  void truncate(std::int64_t length);
  // Keeps these rows of the batch, in this order. `rows` int64 [kept].
  void keep_rows(const Tensor& rows);
  std::uint64_t bytes() const;

 private:
  struct Layer {
    Tensor key, value;  // [batch, capacity, kv_heads, head_dim]
  };

  std::vector<Layer> layers_;
  std::int64_t first_capacity_;
  std::int64_t length_ = 0;
};

}  // namespace oumi
