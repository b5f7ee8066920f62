// Oumi's `fsdp:` and `deepspeed:` as ours. No torch here.
#pragma once

#include "oumi/config/training_config.h"
#include "oumi/distributed/sharding_options.h"

namespace oumi {

// DeepSpeed's stages are met by the equal of each: 0 by DDP, 1 by a sharded optimizer, 2 by SHARD_GRAD_OP, 3 by FULL_SHARD.
// Settings that this does not cover are refused by config/support.cpp.
ShardingOptions sharding_options(const TrainingConfig& config);

}  // namespace oumi
