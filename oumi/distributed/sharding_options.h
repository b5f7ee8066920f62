// How weights, gradients and optimizer state are spread over ranks. No torch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace oumi {

enum class ShardingMode {
  kNone,         // every rank has everything (DDP); FSDP's NO_SHARD
  kZero1,        // optimizer state is split
  kShardGradOp,  // + gradients and, between steps, weights; within a step weights stay whole from forward to backward
  kFullShard,    // weights are whole only while their module computes
};

struct ShardingOptions {
  ShardingMode mode = ShardingMode::kNone;
  std::vector<std::string> wrap_classes = {};  // classes whose modules are units; empty: min_num_params decides
  std::int64_t min_num_params = 0;             // modules of this size are units; 0: the whole model is one unit
  bool bf16_weights = false;                   // gather and compute in bfloat16; the shards stay float32
  bool backward_prefetch = true;               // gather the next unit of backward while one computes
  bool forward_prefetch = false;               // the same in forward
  // Ranks that have one copy's shards among them (neighbours); gradients are also averaged over the copies (hybrid sharding:
  // FSDP's HYBRID_SHARD). 0: all ranks are one copy.
  std::int64_t shard_group_size = 0;
  bool shard_within_machine = false;            // shard_group_size is the ranks of one machine
  bool sharded_weights_in_checkpoints = false;  // each rank writes its own part, instead of one model.safetensors

  bool shards_weights() const { return mode == ShardingMode::kShardGradOp || mode == ShardingMode::kFullShard; }
};

}  // namespace oumi
