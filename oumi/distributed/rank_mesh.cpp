#include "oumi/distributed/rank_mesh.h"

#include <tuple>
#include <utility>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

namespace {

// The rank's row and column in a grid with `width` ranks in a row.
std::pair<std::shared_ptr<ProcessGroup>, std::shared_ptr<ProcessGroup>> make_grid(ProcessGroup& all, std::int64_t width,
                                                                                  const char* row_name,
                                                                                  const char* column_name) {
  const std::int64_t size = all.world_size(), rank = all.rank();
  std::vector<std::int64_t> row, column;
  for (std::int64_t i = 0; i < width; ++i) row.push_back(rank - rank % width + i);
  for (std::int64_t i = rank % width; i < size; i += width) column.push_back(i);
  auto inside = all.subgroup(row, cat(row_name, rank / width));
  return {std::move(inside), all.subgroup(column, cat(column_name, rank % width))};
}

}  // namespace

RankMesh make_rank_mesh(std::shared_ptr<ProcessGroup> world, std::int64_t tensor_size) {
  const std::int64_t size = world->world_size();
  if (tensor_size == 1) return {world, world, std::make_shared<ProcessGroup>()};
  if (tensor_size < 1 || size % tensor_size != 0) {
    throw UserError("parallel.tensor_model_parallel_size",
                    cat("expected a divisor of the number of ranks (", size, "), got ", tensor_size),
                    "start a multiple of it: oumi-cpp launch --nproc-per-node N train ...");
  }
  RankMesh mesh{world, nullptr, nullptr};
  std::tie(mesh.tensor, mesh.data) = make_grid(*world, tensor_size, "tensor", "data");
  return mesh;
}

ShardGroups make_shard_groups(const std::shared_ptr<ProcessGroup>& data, std::int64_t shard_size, const char* setting) {
  const std::int64_t size = data->world_size();
  if (shard_size == 0 || shard_size == size) return {data, std::make_shared<ProcessGroup>()};
  if (shard_size < 1 || size % shard_size != 0) {
    throw UserError(setting, cat("expected a divisor of the number of data-parallel ranks (", size, "), got ", shard_size),
                    "every copy of the model needs as many ranks");
  }
  ShardGroups groups;
  std::tie(groups.shard, groups.copies) = make_grid(*data, shard_size, "shard", "copies");
  return groups;
}

}  // namespace oumi
