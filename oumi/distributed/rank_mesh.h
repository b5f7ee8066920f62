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

// A data-parallel group as a grid of its own: shards of one copy of the model inside, copies outside.
struct ShardGroups {
  std::shared_ptr<ProcessGroup> shard;   // ranks that have one copy's shards among them
  std::shared_ptr<ProcessGroup> copies;  // ranks with the same shards

  // Of the ranks with the same shards, the one that writes them.
  bool writes_shards() const { return copies->is_main(); }
};

// Rank r of `data` has shard r % shard_size of copy r / shard_size; 0: all ranks are one copy. Every rank calls it. Throws
// UserError naming `setting` where shard_size does not divide the group.
ShardGroups make_shard_groups(const std::shared_ptr<ProcessGroup>& data, std::int64_t shard_size, const char* setting);

}  // namespace oumi
