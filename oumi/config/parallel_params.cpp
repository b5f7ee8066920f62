#include "oumi/config/parallel_params.h"

#include "oumi/config/codec.h"

namespace oumi {

FieldList fields_of(const FSDPParams*) {
  using P = FSDPParams;
  static constexpr Field kFields[] = {
      field<&P::enable_fsdp>("enable_fsdp", "", "Shard weights, gradients and optimizer state over ranks."),
      field<&P::sharding_strategy>("sharding_strategy", "", "What is sharded, and over which ranks."),
      field<&P::cpu_offload>("cpu_offload", "", "Keep shards in host memory between uses."),
      field<&P::mixed_precision>("mixed_precision", "",
                                 "Element type of gathered weights: fp16 or bf16; unset keeps their own."),
      field<&P::backward_prefetch>("backward_prefetch", "", "When the next shard is gathered in backward."),
      field<&P::forward_prefetch>("forward_prefetch", "", "Gather the next shard while the current one computes."),
      field<&P::use_orig_params>("use_orig_params", "", "Keep parameters under their own names; ours always are."),
      field<&P::state_dict_type>("state_dict_type", "", "Whole or sharded checkpoints."),
      field<&P::auto_wrap_policy>("auto_wrap_policy", "", "Which modules become sharding units."),
      field<&P::min_num_params>("min_num_params", "parameters", "Smallest unit of SIZE_BASED_WRAP."),
      field<&P::transformer_layer_cls>("transformer_layer_cls", "",
                                       "Classes that TRANSFORMER_BASED_WRAP wraps, comma-separated."),
      field<&P::sync_module_states>("sync_module_states", "", "Send rank 0's weights to every rank first."),
      field<&P::shard_group_size>("shard_group_size", "ranks",
                                  "Ranks that have one copy's shards in the hybrid strategies; unset: those of a machine."),
  };
  return kFields;
}

FieldList fields_of(const OffloadConfig*) {
  using P = OffloadConfig;
  static constexpr Field kFields[] = {
      field<&P::device>("device", "", "Where to."),
      field<&P::pin_memory>("pin_memory", "", "Use page-locked memory."),
      field<&P::buffer_count>("buffer_count", "buffers", "Buffers in host memory."),
      field<&P::buffer_count_nvme>("buffer_count_nvme", "buffers", "Buffers for NVMe."),
      field<&P::block_size>("block_size", "bytes", "Size of one NVMe request."),
      field<&P::queue_depth>("queue_depth", "requests", "NVMe requests under way."),
      field<&P::single_submit>("single_submit", "", "Submit NVMe requests one by one."),
      field<&P::overlap_events>("overlap_events", "", "Overlap submitting with completing."),
      field<&P::thread_count>("thread_count", "threads", "Threads for NVMe."),
  };
  return kFields;
}

FieldList fields_of(const DeepSpeedParams*) {
  using P = DeepSpeedParams;
  static constexpr Field kFields[] = {
      field<&P::enable_deepspeed>("enable_deepspeed", "", "Use the ZeRO stage below; it runs on our own sharding."),
      field<&P::deepspeed_config_path>("deepspeed_config_path", "", "DeepSpeed JSON file to use instead of these fields."),
      field<&P::zero_stage>("zero_stage", "", "What ZeRO shards: optimizer state, + gradients, + weights."),
      field<&P::offload_optimizer>("offload_optimizer", "", "Keep optimizer state outside of GPU memory."),
      field<&P::offload_param>("offload_param", "", "Keep weights outside of GPU memory; ZERO_3 alone."),
      field<&P::precision>("precision", "", "Element type of training."),
      field<&P::overlap_comm>("overlap_comm", "", "Reduce gradients while backward goes on."),
      field<&P::contiguous_gradients>("contiguous_gradients", "", "Copy gradients into one buffer."),
      field<&P::reduce_bucket_size>("reduce_bucket_size", "elements", "Elements reduced at once, or auto."),
      field<&P::allgather_bucket_size>("allgather_bucket_size", "elements", "Elements gathered at once."),
      field<&P::allgather_partitions>("allgather_partitions", "", "Gather weights with all-gather instead of broadcasts."),
      field<&P::reduce_scatter>("reduce_scatter", "", "Average gradients with reduce-scatter."),
      field<&P::round_robin_gradients>("round_robin_gradients", "", "Spread gradient copies over ranks."),
      field<&P::stage3_prefetch_bucket_size>("stage3_prefetch_bucket_size", "elements", "Elements prefetched, or auto."),
      field<&P::stage3_param_persistence_threshold>("stage3_param_persistence_threshold", "elements",
                                                    "Smaller parameters stay whole, or auto."),
      field<&P::stage3_max_live_parameters>("stage3_max_live_parameters", "parameters", "Whole parameters held at once."),
      field<&P::stage3_max_reuse_distance>("stage3_max_reuse_distance", "parameters",
                                           "A parameter used again this soon is kept whole."),
      field<&P::stage3_gather_16bit_weights_on_model_save>("stage3_gather_16bit_weights_on_model_save", "",
                                                           "Save whole 16-bit weights."),
      field<&P::sub_group_size>("sub_group_size", "parameters", "Parameters updated at once."),
      field<&P::train_batch_size>("train_batch_size", "samples", "Whole batch, or auto."),
      field<&P::train_micro_batch_size_per_gpu>("train_micro_batch_size_per_gpu", "samples", "Micro-batch of a rank, or auto."),
      field<&P::gradient_accumulation_steps>("gradient_accumulation_steps", "micro-batches",
                                             "Micro-batches of an update, or auto."),
      field<&P::gradient_clipping>("gradient_clipping", "", "Largest gradient norm, or auto."),
      field<&P::zero_allow_untested_optimizer>("zero_allow_untested_optimizer", "", "Accept any optimizer."),
      field<&P::zero_force_ds_cpu_optimizer>("zero_force_ds_cpu_optimizer", "",
                                             "Insist on DeepSpeed's own optimizer on the CPU."),
      field<&P::activation_checkpointing>("activation_checkpointing", "", "DeepSpeed's settings of activation checkpointing."),
      field<&P::memory_efficient_linear>("memory_efficient_linear", "", "Linear layers that save memory."),
      field<&P::steps_per_print>("steps_per_print", "steps", "How often DeepSpeed prints."),
      field<&P::wall_clock_breakdown>("wall_clock_breakdown", "", "Print timings of forward, backward and step."),
  };
  return kFields;
}

FieldList fields_of(const ParallelParams*) {
  using P = ParallelParams;
  static constexpr Field kFields[] = {
      field<&P::tensor_model_parallel_size>("tensor_model_parallel_size", "ranks", "Ranks that split each layer's matrices."),
      field<&P::sequence_parallel>("sequence_parallel", "", "Split norms and dropout along the sequence between those ranks."),
      field<&P::pipeline_model_parallel_size>("pipeline_model_parallel_size", "ranks", "Ranks that split the layers."),
      field<&P::context_parallel_size>("context_parallel_size", "ranks", "Ranks that split each sequence."),
  };
  return kFields;
}

}  // namespace oumi
