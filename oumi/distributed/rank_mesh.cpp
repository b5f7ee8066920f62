#include "oumi/distributed/rank_mesh.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

RankMesh make_rank_mesh(std::shared_ptr<ProcessGroup> world, std::int64_t tensor_size) {
  const std::int64_t size = world->world_size(), rank = world->rank();
  if (tensor_size == 1) return {world, world, std::make_shared<ProcessGroup>()};
  if (tensor_size < 1 || size % tensor_size != 0) {
    throw UserError("parallel.tensor_model_parallel_size", cat("expected a divisor of the number of ranks (", size, "), got ", tensor_size),
                    "start a multiple of it: oumi-cpp launch --nproc-per-node N train ...");
  }
  std::vector<std::int64_t> row, column;
  for (std::int64_t i = 0; i < tensor_size; ++i) row.push_back(rank - rank % tensor_size + i);
  for (std::int64_t i = rank % tensor_size; i < size; i += tensor_size) column.push_back(i);
  RankMesh mesh{world, nullptr, nullptr};
  mesh.tensor = world->subgroup(row, cat("tensor", rank / tensor_size));
  mesh.data = world->subgroup(column, cat("data", rank % tensor_size));
  return mesh;
}

}  // namespace oumi
