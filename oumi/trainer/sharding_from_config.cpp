#include "oumi/trainer/sharding_from_config.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr std::int64_t kAutomaticUnit = 100000;  // parameters; FSDP's default of SIZE_BASED_WRAP

ShardingOptions from_fsdp(const FSDPParams& fsdp) {
  ShardingOptions options;
  switch (fsdp.sharding_strategy) {
    case ShardingStrategy::kFullShard: options.mode = ShardingMode::kFullShard; break;
    case ShardingStrategy::kShardGradOp: options.mode = ShardingMode::kShardGradOp; break;
    case ShardingStrategy::kHybridShard: options.mode = ShardingMode::kFullShard; break;
    case ShardingStrategy::kHybridShardZero2: options.mode = ShardingMode::kShardGradOp; break;
    case ShardingStrategy::kNoShard: return options;  // DDP
  }
  if (fsdp.sharding_strategy == ShardingStrategy::kHybridShard ||
      fsdp.sharding_strategy == ShardingStrategy::kHybridShardZero2) {
    options.shard_group_size = fsdp.shard_group_size.value_or(0);
    options.shard_within_machine = !fsdp.shard_group_size;
  }
  if (fsdp.auto_wrap_policy == AutoWrapPolicy::kTransformerBasedWrap) {
    if (fsdp.transformer_layer_cls) {
      for (const std::string& name : split(*fsdp.transformer_layer_cls, ',')) {
        // Oumi takes import paths too: the class is their last part.
        const std::string trimmed = trim(name);
        if (!trimmed.empty()) options.wrap_classes.push_back(trimmed.substr(trimmed.rfind('.') + 1));
      }
    }
    if (options.wrap_classes.empty()) options.min_num_params = kAutomaticUnit;
  } else if (fsdp.auto_wrap_policy == AutoWrapPolicy::kSizeBasedWrap) {
    options.min_num_params = fsdp.min_num_params;
  }
  options.bf16_weights = fsdp.mixed_precision && to_lower(*fsdp.mixed_precision) == "bf16";
  options.backward_prefetch = fsdp.backward_prefetch != BackwardPrefetch::kNoPrefetch;
  options.forward_prefetch = fsdp.forward_prefetch;
  options.sharded_weights_in_checkpoints = fsdp.state_dict_type != StateDictType::kFullStateDict;
  return options;
}

ShardingOptions from_deepspeed(const DeepSpeedParams& deepspeed) {
  ShardingOptions options;
  switch (deepspeed.zero_stage) {
    case ZeRORuntimeStage::kZero0: return options;
    case ZeRORuntimeStage::kZero1: options.mode = ShardingMode::kZero1; break;
    case ZeRORuntimeStage::kZero2: options.mode = ShardingMode::kShardGradOp; break;
    case ZeRORuntimeStage::kZero3: options.mode = ShardingMode::kFullShard; break;
  }
  if (options.shards_weights()) {
    options.min_num_params = kAutomaticUnit;
    options.bf16_weights = deepspeed.precision == DeepSpeedPrecision::kBf16;
  }
  return options;
}

}  // namespace

ShardingOptions sharding_options(const TrainingConfig& config) {
  if (config.fsdp.enable_fsdp) return from_fsdp(config.fsdp);
  if (config.deepspeed.enable_deepspeed) return from_deepspeed(config.deepspeed);
  return {};
}

}  // namespace oumi
