#include "oumi/config/enums.h"

#include "oumi/base/error.h"

namespace oumi {

std::span<const EnumName> enum_names(TrainTarget) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(TrainTarget::kAllAssistantTurns), "ALL_ASSISTANT_TURNS", "all_assistant_turns"},
      {static_cast<int>(TrainTarget::kFinalAssistantTurn), "FINAL_ASSISTANT_TURN", "final_assistant_turn"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(TrainerType) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(TrainerType::kTrlSft), "TRL_SFT", "trl_sft"},
      {static_cast<int>(TrainerType::kTrlDpo), "TRL_DPO", "trl_dpo"},
      {static_cast<int>(TrainerType::kTrlKto), "TRL_KTO", "trl_kto"},
      {static_cast<int>(TrainerType::kTrlGrpo), "TRL_GRPO", "trl_grpo"},
      {static_cast<int>(TrainerType::kTrlGkd), "TRL_GKD", "trl_gkd"},
      {static_cast<int>(TrainerType::kTrlGold), "TRL_GOLD", "trl_gold"},
      {static_cast<int>(TrainerType::kHf), "HF", "hf"},
      {static_cast<int>(TrainerType::kOumi), "OUMI", "oumi"},
      {static_cast<int>(TrainerType::kVerlGrpo), "VERL_GRPO", "verl_grpo"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(MixedPrecisionDtype) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(MixedPrecisionDtype::kNone), "NONE", "none"},
      {static_cast<int>(MixedPrecisionDtype::kFp16), "FP16", "fp16"},
      {static_cast<int>(MixedPrecisionDtype::kBf16), "BF16", "bf16"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(LoraWeightInitialization) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(LoraWeightInitialization::kDefault), "DEFAULT", "default"},
      {static_cast<int>(LoraWeightInitialization::kRandom), "RANDOM", "random"},
      {static_cast<int>(LoraWeightInitialization::kGaussian), "GAUSSIAN", "gaussian"},
      {static_cast<int>(LoraWeightInitialization::kEva), "EVA", "eva"},
      {static_cast<int>(LoraWeightInitialization::kPisa), "PISA", "pissa"},
      {static_cast<int>(LoraWeightInitialization::kPissaNiter), "PISSA_NITER", "pissa_niter"},
      {static_cast<int>(LoraWeightInitialization::kLoftq), "LOFTQ", "loftq"},
      {static_cast<int>(LoraWeightInitialization::kOlora), "OLORA", "olora"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(TaskType) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(TaskType::kSeqCls), "SEQ_CLS", "SEQ_CLS"},
      {static_cast<int>(TaskType::kSeq2SeqLm), "SEQ_2_SEQ_LM", "SEQ_2_SEQ_LM"},
      {static_cast<int>(TaskType::kCausalLm), "CAUSAL_LM", "CAUSAL_LM"},
      {static_cast<int>(TaskType::kTokenCls), "TOKEN_CLS", "TOKEN_CLS"},
      {static_cast<int>(TaskType::kQuestionAns), "QUESTION_ANS", "QUESTION_ANS"},
      {static_cast<int>(TaskType::kFeatureExtraction), "FEATURE_EXTRACTION", "FEATURE_EXTRACTION"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(PeftSaveMode) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(PeftSaveMode::kAdapterOnly), "ADAPTER_ONLY", "adapter_only"},
      {static_cast<int>(PeftSaveMode::kAdapterAndBaseModel), "ADAPTER_AND_BASE_MODEL", "adapter_and_base_model"},
      {static_cast<int>(PeftSaveMode::kMerged), "MERGED", "merged"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(ShardingStrategy) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(ShardingStrategy::kFullShard), "FULL_SHARD", "FULL_SHARD"},
      {static_cast<int>(ShardingStrategy::kShardGradOp), "SHARD_GRAD_OP", "SHARD_GRAD_OP"},
      {static_cast<int>(ShardingStrategy::kHybridShard), "HYBRID_SHARD", "HYBRID_SHARD"},
      {static_cast<int>(ShardingStrategy::kNoShard), "NO_SHARD", "NO_SHARD"},
      {static_cast<int>(ShardingStrategy::kHybridShardZero2), "HYBRID_SHARD_ZERO2", "HYBRID_SHARD_ZERO2"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(BackwardPrefetch) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(BackwardPrefetch::kBackwardPre), "BACKWARD_PRE", "BACKWARD_PRE"},
      {static_cast<int>(BackwardPrefetch::kBackwardPost), "BACKWARD_POST", "BACKWARD_POST"},
      {static_cast<int>(BackwardPrefetch::kNoPrefetch), "NO_PREFETCH", "NO_PREFETCH"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(StateDictType) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(StateDictType::kFullStateDict), "FULL_STATE_DICT", "FULL_STATE_DICT"},
      {static_cast<int>(StateDictType::kShardedStateDict), "SHARDED_STATE_DICT", "SHARDED_STATE_DICT"},
      {static_cast<int>(StateDictType::kLocalStateDict), "LOCAL_STATE_DICT", "LOCAL_STATE_DICT"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(AutoWrapPolicy) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(AutoWrapPolicy::kSizeBasedWrap), "SIZE_BASED_WRAP", "SIZE_BASED_WRAP"},
      {static_cast<int>(AutoWrapPolicy::kTransformerBasedWrap), "TRANSFORMER_BASED_WRAP", "TRANSFORMER_BASED_WRAP"},
      {static_cast<int>(AutoWrapPolicy::kNoWrap), "NO_WRAP", "NO_WRAP"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(ZeRORuntimeStage) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(ZeRORuntimeStage::kZero0), "ZERO_0", "0"},
      {static_cast<int>(ZeRORuntimeStage::kZero1), "ZERO_1", "1"},
      {static_cast<int>(ZeRORuntimeStage::kZero2), "ZERO_2", "2"},
      {static_cast<int>(ZeRORuntimeStage::kZero3), "ZERO_3", "3"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(DeepSpeedOffloadDevice) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(DeepSpeedOffloadDevice::kCpu), "CPU", "cpu"},
      {static_cast<int>(DeepSpeedOffloadDevice::kNvme), "NVME", "nvme"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(DeepSpeedPrecision) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(DeepSpeedPrecision::kFp16), "FP16", "fp16"},
      {static_cast<int>(DeepSpeedPrecision::kBf16), "BF16", "bf16"},
  };
  return kNames;
}

std::span<const EnumName> enum_names(NanPolicy) {
  static constexpr EnumName kNames[] = {
      {static_cast<int>(NanPolicy::kStop), "STOP", "stop"},
      {static_cast<int>(NanPolicy::kSkip), "SKIP", "skip"},
  };
  return kNames;
}

const char* enum_name(std::span<const EnumName> names, int value) {
  for (const EnumName& entry : names) {
    if (entry.value == value) return entry.name;
  }
  throw InternalError("an enumerator without a name: " + std::to_string(value));
}

}  // namespace oumi
