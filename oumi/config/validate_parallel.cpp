#include "oumi/config/rules.h"

namespace oumi {
namespace {

bool is_trl(TrainerType type) {
  return type != TrainerType::kHf && type != TrainerType::kOumi && type != TrainerType::kVerlGrpo;
}

void validate_deepspeed(const DeepSpeedParams& deepspeed, TrainerType trainer) {
  if (deepspeed.offload_param && deepspeed.zero_stage != ZeRORuntimeStage::kZero3) {
    throw_rule("deepspeed.zero_stage", "ZERO_3 with offload_param", to_string(deepspeed.zero_stage));
  }
  if (deepspeed.offload_optimizer && deepspeed.zero_stage == ZeRORuntimeStage::kZero0) {
    throw_rule("deepspeed.zero_stage", "ZERO_1, ZERO_2 or ZERO_3 with offload_optimizer", "ZERO_0");
  }
  const auto* word = std::get_if<std::string>(&deepspeed.train_batch_size);
  if (deepspeed.enable_deepspeed && is_trl(trainer) && (word == nullptr || *word != "auto")) {
    throw_rule("deepspeed.train_batch_size", "auto with training.trainer_type " + to_string(trainer),
               word ? shown(*word) : shown(std::get<std::int64_t>(deepspeed.train_batch_size)));
  }
  const std::pair<const char*, const IntOrString*> counts[] = {
      {"reduce_bucket_size", &deepspeed.reduce_bucket_size},
      {"stage3_prefetch_bucket_size", &deepspeed.stage3_prefetch_bucket_size},
      {"stage3_param_persistence_threshold", &deepspeed.stage3_param_persistence_threshold},
      {"train_batch_size", &deepspeed.train_batch_size},
      {"train_micro_batch_size_per_gpu", &deepspeed.train_micro_batch_size_per_gpu},
      {"gradient_accumulation_steps", &deepspeed.gradient_accumulation_steps},
      {"gradient_clipping", &deepspeed.gradient_clipping},
  };
  for (const auto& [name, value] : counts) {
    const auto* text = std::get_if<std::string>(value);
    if (text != nullptr && *text != "auto") throw_rule(std::string("deepspeed.") + name, "an int or auto", shown(*text));
    if (text == nullptr) check_at_least<std::int64_t>(std::string("deepspeed.") + name, std::get<std::int64_t>(*value), 0);
  }
}

}  // namespace

void validate_peft(const PeftParams& peft) {
  check_at_least<std::int64_t>("peft.lora_r", peft.lora_r, 1);
  check_at_least<std::int64_t>("peft.lora_alpha", peft.lora_alpha, 1);
  check_interval("peft.lora_dropout", peft.lora_dropout, {.with_high = false});
  check_word("peft.lora_bias", peft.lora_bias, {"none", "all", "lora_only"});
  if (peft.q_lora_bits != 4 && peft.q_lora_bits != 8) throw_rule("peft.q_lora_bits", "4 or 8", shown(peft.q_lora_bits));
  check_word("peft.bnb_4bit_quant_type", peft.bnb_4bit_quant_type, {"fp4", "nf4"});
}

void validate_parallel(const TrainingConfig& config) {
  if (config.fsdp.enable_fsdp && config.deepspeed.enable_deepspeed) {
    throw_rule("deepspeed.enable_deepspeed", "fsdp or deepspeed", "both",
               "set one of fsdp.enable_fsdp and deepspeed.enable_deepspeed to false");
  }
  if (config.fsdp.mixed_precision) check_word("fsdp.mixed_precision", *config.fsdp.mixed_precision, {"fp16", "bf16"});
  check_at_least<std::int64_t>("fsdp.min_num_params", config.fsdp.min_num_params, 0);
  const bool hybrid = config.fsdp.sharding_strategy == ShardingStrategy::kHybridShard ||
                      config.fsdp.sharding_strategy == ShardingStrategy::kHybridShardZero2;
  if (config.fsdp.shard_group_size) {
    check_at_least<std::int64_t>("fsdp.shard_group_size", *config.fsdp.shard_group_size, 1);
    if (!hybrid) {
      throw_rule("fsdp.shard_group_size", "none unless sharding_strategy is HYBRID_SHARD or HYBRID_SHARD_ZERO2",
                 shown(*config.fsdp.shard_group_size));
    }
  }
  validate_deepspeed(config.deepspeed, config.training.trainer_type);
  const ParallelParams& parallel = config.parallel;
  check_at_least<std::int64_t>("parallel.tensor_model_parallel_size", parallel.tensor_model_parallel_size, 1);
  check_at_least<std::int64_t>("parallel.pipeline_model_parallel_size", parallel.pipeline_model_parallel_size, 1);
  check_at_least<std::int64_t>("parallel.context_parallel_size", parallel.context_parallel_size, 1);
  if (parallel.sequence_parallel && parallel.tensor_model_parallel_size == 1) {
    throw_rule("parallel.sequence_parallel", "false unless tensor_model_parallel_size is above 1", "true");
  }
}

}  // namespace oumi
