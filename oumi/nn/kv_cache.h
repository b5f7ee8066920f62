// The keys and values of the tokens that a decoder has seen: what makes decoding one token cost one token.
#pragma once

#include <cstdint>
#include <utility>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::nn {

// One forward appends to every layer once, in the order of the layers. Owned by the caller (generation); how it stores is its
// own business, as long as `append` returns what the layer's attention has to see.
class KvCache {
 public:
  virtual ~KvCache() = default;

  // Adds the new tokens of `layer`, after rotary embedding: key and value [batch, new, kv_heads, head_dim]. Returns everything
  // so far, the new tokens last: [batch, length + new, kv_heads, head_dim]. An implementation may leave out the oldest ones
  // of a layer with a sliding window, as long as at least the last window + new - 1 stay.
  virtual std::pair<Tensor, Tensor> append(std::int64_t layer, const Tensor& key, const Tensor& value) = 0;

  // Tokens that were there before the forward in progress: the position of the first new one, padding included.
  virtual std::int64_t length() const = 0;
};

}  // namespace oumi::nn
