// `fsdp:`, `deepspeed:` and `parallel:` - how weights, gradients and work are spread over ranks. One entry per field:
// parallel_params.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "oumi/config/enums.h"
#include "oumi/config/field.h"

namespace oumi {

struct FSDPParams {
  bool enable_fsdp = false;
  ShardingStrategy sharding_strategy = ShardingStrategy::kFullShard;
  bool cpu_offload = false;
  std::optional<std::string> mixed_precision;
  BackwardPrefetch backward_prefetch = BackwardPrefetch::kBackwardPre;
  bool forward_prefetch = false;
  std::optional<bool> use_orig_params;
  StateDictType state_dict_type = StateDictType::kFullStateDict;
  AutoWrapPolicy auto_wrap_policy = AutoWrapPolicy::kNoWrap;
  std::int64_t min_num_params = 100000;
  std::optional<std::string> transformer_layer_cls;
  bool sync_module_states = true;

  // --- ours ---
  std::optional<std::int64_t> shard_group_size;

  bool operator==(const FSDPParams&) const = default;
};

struct OffloadConfig {
  DeepSpeedOffloadDevice device = DeepSpeedOffloadDevice::kCpu;
  bool pin_memory = true;
  std::int64_t buffer_count = 4;
  std::int64_t buffer_count_nvme = 2;
  std::int64_t block_size = 1048576;
  std::int64_t queue_depth = 8;
  bool single_submit = false;
  bool overlap_events = true;
  std::int64_t thread_count = 1;

  bool operator==(const OffloadConfig&) const = default;
};

struct DeepSpeedParams {
  bool enable_deepspeed = false;
  std::optional<std::string> deepspeed_config_path;
  ZeRORuntimeStage zero_stage = ZeRORuntimeStage::kZero0;
  std::optional<OffloadConfig> offload_optimizer;
  std::optional<OffloadConfig> offload_param;
  std::optional<DeepSpeedPrecision> precision;
  bool overlap_comm = false;
  bool contiguous_gradients = true;
  IntOrString reduce_bucket_size = std::int64_t{500000000};
  std::int64_t allgather_bucket_size = 500000000;
  bool allgather_partitions = true;
  bool reduce_scatter = true;
  bool round_robin_gradients = false;
  IntOrString stage3_prefetch_bucket_size = std::int64_t{50000000};
  IntOrString stage3_param_persistence_threshold = std::int64_t{100000};
  std::int64_t stage3_max_live_parameters = 1000000000;
  std::int64_t stage3_max_reuse_distance = 1000000000;
  bool stage3_gather_16bit_weights_on_model_save = false;
  std::int64_t sub_group_size = 1000000000;
  IntOrString train_batch_size = "auto";
  IntOrString train_micro_batch_size_per_gpu = "auto";
  IntOrString gradient_accumulation_steps = "auto";
  IntOrString gradient_clipping = "auto";
  bool zero_allow_untested_optimizer = true;
  bool zero_force_ds_cpu_optimizer = true;
  Json activation_checkpointing = Json::object();
  bool memory_efficient_linear = false;
  std::int64_t steps_per_print = 10;
  bool wall_clock_breakdown = false;

  bool operator==(const DeepSpeedParams&) const = default;
};

// Model-parallel layouts, by Megatron's names.
struct ParallelParams {
  std::int64_t tensor_model_parallel_size = 1;
  bool sequence_parallel = false;
  std::int64_t pipeline_model_parallel_size = 1;
  std::int64_t context_parallel_size = 1;

  bool operator==(const ParallelParams&) const = default;
};

FieldList fields_of(const FSDPParams*);
FieldList fields_of(const OffloadConfig*);
FieldList fields_of(const DeepSpeedParams*);
FieldList fields_of(const ParallelParams*);

}  // namespace oumi
