#include "oumi/distributed/tensor_split.h"

#include <ATen/ops/cat.h>

#include <algorithm>
#include <numeric>

namespace oumi {

std::pair<std::int64_t, std::int64_t> TensorSplit::range(std::int64_t size, std::int64_t rank, std::int64_t ranks) {
  const std::int64_t share = (size + ranks - 1) / ranks, begin = std::min(rank * share, size);
  return {begin, std::min(share, size - begin)};
}

std::int64_t TensorSplit::whole_size() const { return std::accumulate(pieces.begin(), pieces.end(), std::int64_t{0}); }

std::int64_t TensorSplit::local_size(std::int64_t rank, std::int64_t ranks) const {
  std::int64_t size = 0;
  for (const std::int64_t piece : pieces) size += range(piece, rank, ranks).second;
  return size;
}

std::vector<std::int64_t> TensorSplit::whole_shape(c10::IntArrayRef local) const {
  std::vector<std::int64_t> shape = local.vec();
  shape.at(static_cast<std::size_t>(dim)) = whole_size();
  return shape;
}

Tensor TensorSplit::slice(const Tensor& whole, std::int64_t rank, std::int64_t ranks) const {
  std::vector<Tensor> parts;
  std::int64_t offset = 0;
  for (const std::int64_t piece : pieces) {
    const auto [begin, size] = range(piece, rank, ranks);
    parts.push_back(whole.narrow(dim, offset + begin, size));
    offset += piece;
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts, dim);
}

Tensor TensorSplit::join(const std::vector<Tensor>& parts) const {
  const auto ranks = static_cast<std::int64_t>(parts.size());
  std::vector<std::int64_t> offsets(parts.size(), 0);
  std::vector<Tensor> in_order;
  for (const std::int64_t piece : pieces) {
    for (std::size_t rank = 0; rank < parts.size(); ++rank) {
      const std::int64_t size = range(piece, static_cast<std::int64_t>(rank), ranks).second;
      in_order.push_back(parts[rank].narrow(dim, offsets[rank], size));
      offsets[rank] += size;
    }
  }
  return at::cat(in_order, dim);
}

Json TensorSplit::to_json() const { return {{"dim", dim}, {"pieces", pieces}}; }

TensorSplit TensorSplit::from_json(const Json& json) {
  return {.dim = json.at("dim").get<std::int64_t>(), .pieces = json.at("pieces").get<std::vector<std::int64_t>>()};
}

}  // namespace oumi
