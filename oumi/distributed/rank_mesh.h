// The processes of a run as a grid: tensor parallelism inside, data parallelism outside, so that the ranks which talk most are
// neighbours (Megatron's order).
#pragma once

#include <memory>

#include "oumi/distributed/process_group.h"

namespace oumi {

struct RankMesh {
  std::shared_ptr<ProcessGroup> world;
  std::shared_ptr<ProcessGroup> data;    // ranks with the same part of the model and other samples
  std::shared_ptr<ProcessGroup> tensor;  // ranks that share one copy of the model and see the same samples

  // In the grid's first copy of the model: the ranks that write it.
  bool writes_model() const { return data->is_main(); }
};

// World rank r is number r % tensor_size of copy r / tensor_size. Every rank calls it. Throws UserError where tensor_size does
// not divide the world.
RankMesh make_rank_mesh(std::shared_ptr<ProcessGroup> world, std::int64_t tensor_size);

}  // namespace oumi
