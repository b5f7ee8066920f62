// The closed choices of a config. YAML holds an enumerator by its name (TRL_SFT); reading ignores case and takes the
// value that Oumi gives it in Python (trl_sft, bf16) too; writing always gives the name.
#pragma once

#include <span>
#include <string>

namespace oumi {

// What each assistant token of a conversation contributes to the loss.
enum class TrainTarget { kAllAssistantTurns, kFinalAssistantTurn };

enum class TrainerType { kTrlSft, kTrlDpo, kTrlKto, kTrlGrpo, kTrlGkd, kTrlGold, kHf, kOumi, kVerlGrpo };

// Element type of activations under automatic mixed precision; weights stay in float32.
enum class MixedPrecisionDtype { kNone, kFp16, kBf16 };

enum class LoraWeightInitialization { kDefault, kRandom, kGaussian, kEva, kPisa, kPissaNiter, kLoftq, kOlora };

// The head that an adapter belongs to, as written into adapter_config.json.
enum class TaskType { kSeqCls, kSeq2SeqLm, kCausalLm, kTokenCls, kQuestionAns, kFeatureExtraction };

enum class PeftSaveMode { kAdapterOnly, kAdapterAndBaseModel, kMerged };

enum class ShardingStrategy { kFullShard, kShardGradOp, kHybridShard, kNoShard, kHybridShardZero2 };

enum class BackwardPrefetch { kBackwardPre, kBackwardPost, kNoPrefetch };

enum class StateDictType { kFullStateDict, kShardedStateDict, kLocalStateDict };

enum class AutoWrapPolicy { kSizeBasedWrap, kTransformerBasedWrap, kNoWrap };

enum class ZeRORuntimeStage { kZero0, kZero1, kZero2, kZero3 };

enum class DeepSpeedOffloadDevice { kCpu, kNvme };

enum class DeepSpeedPrecision { kFp16, kBf16 };

// What happens when a loss or gradient norm is not finite: stop and name the batch's samples, or leave the update out.
enum class NanPolicy { kStop, kSkip };

struct EnumName {
  int value;
  const char* name;   // canonical, in YAML
  const char* alias;  // the Python value, accepted when reading
};

std::span<const EnumName> enum_names(TrainTarget);
std::span<const EnumName> enum_names(TrainerType);
std::span<const EnumName> enum_names(MixedPrecisionDtype);
std::span<const EnumName> enum_names(LoraWeightInitialization);
std::span<const EnumName> enum_names(TaskType);
std::span<const EnumName> enum_names(PeftSaveMode);
std::span<const EnumName> enum_names(ShardingStrategy);
std::span<const EnumName> enum_names(BackwardPrefetch);
std::span<const EnumName> enum_names(StateDictType);
std::span<const EnumName> enum_names(AutoWrapPolicy);
std::span<const EnumName> enum_names(ZeRORuntimeStage);
std::span<const EnumName> enum_names(DeepSpeedOffloadDevice);
std::span<const EnumName> enum_names(DeepSpeedPrecision);
std::span<const EnumName> enum_names(NanPolicy);

const char* enum_name(std::span<const EnumName> names, int value);

// "TRL_SFT" for TrainerType::kTrlSft.
template <class E>
  requires requires(E value) { enum_names(value); }
std::string to_string(E value) {
  return enum_name(enum_names(value), static_cast<int>(value));
}

}  // namespace oumi
