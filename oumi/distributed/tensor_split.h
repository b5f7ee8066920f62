// How one parameter lies over the ranks of a tensor-parallel group.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi {

struct TensorSplit {
  std::int64_t dim = 0;
  // Sizes along `dim` of the whole's parts, each of which is spread over all ranks: {q, k, v} of a fused projection. Rank r has
  // rows [r c, (r + 1) c) of a part of n, c = n / ranks rounded up: the last rank has fewer where ranks don't divide n.
  std::vector<std::int64_t> pieces = {};

  std::int64_t whole_size() const;                                       // along dim
  std::int64_t local_size(std::int64_t rank, std::int64_t ranks) const;  // along dim
  std::vector<std::int64_t> whole_shape(c10::IntArrayRef local) const;

  // A rank's part of the whole: a view where there is one piece, else a copy.
  Tensor slice(const Tensor& whole, std::int64_t rank, std::int64_t ranks) const;
  // All ranks' parts in order -> the whole.
  Tensor join(const std::vector<Tensor>& parts) const;

  Json to_json() const;
  static TensorSplit from_json(const Json& json);

  // {first, how many} of `size` elements.
  static std::pair<std::int64_t, std::int64_t> range(std::int64_t size, std::int64_t rank, std::int64_t ranks);
};

}  // namespace oumi
