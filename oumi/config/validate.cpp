#include "oumi/config/validate.h"

#include "oumi/config/rules.h"

namespace oumi {
namespace {

bool is_float32(const std::string& dtype) {
  const std::string name = to_lower(dtype);
  return name == "float32" || name == "f32" || name == "float";
}

// The vision collator reads whole conversations, one JSON column, and must not lose it on the way.
void validate_vision_sft(const TrainingConfig& config) {
  if (config.data.train.collator_name != "vision_language_sft") return;
  const auto check_split = [](const char* name, const DatasetSplitParams& split) {
    for (std::size_t i = 0; i < split.datasets.size(); ++i) {
      const Json& kwargs = split.datasets[i].dataset_kwargs;
      if (kwargs.contains("return_conversations") && kwargs["return_conversations"] == false) {
        throw_rule(cat("data.", name, ".datasets[", i, "].dataset_kwargs.return_conversations"),
                   "true with the collator vision_language_sft", "false");
      }
    }
  };
  check_split("train", config.data.train);
  check_split("validation", config.data.validation);
  check_split("test", config.data.test);
  const Json& kwargs = config.training.trainer_kwargs;
  if (config.training.trainer_type == TrainerType::kTrlSft && kwargs.contains("remove_unused_columns") &&
      kwargs["remove_unused_columns"] == true) {
    throw_rule("training.trainer_kwargs.remove_unused_columns", "false with the collator vision_language_sft", "true",
               "the collator reads the columns that the model does not");
  }
}

}  // namespace

void validate(const TrainingConfig& config) {
  validate_model(config.model);
  validate_data(config.data);
  validate_training(config.training);
  validate_rl(config.training);
  validate_peft(config.peft);
  validate_parallel(config);
  validate_vision_sft(config);

  const TrainingParams& training = config.training;
  if (config.model.compile) throw_rule("model.compile", "false in a training config", "true", "set training.compile instead");
  if (training.compile && config.fsdp.use_orig_params == false) {
    throw_rule("fsdp.use_orig_params", "true with training.compile", "false", "remove one of the two");
  }
  if (training.mixed_precision_dtype != MixedPrecisionDtype::kNone && !is_float32(config.model.torch_dtype_str)) {
    throw_rule(
        "model.torch_dtype_str", "float32 with training.mixed_precision_dtype " + to_string(training.mixed_precision_dtype),
        shown(config.model.torch_dtype_str), "mixed precision keeps weights in float32: set model.torch_dtype_str=float32");
  }
  if (training.trainer_type == TrainerType::kVerlGrpo && config.data.validation.datasets.empty()) {
    throw_rule("data.validation.datasets", "at least one dataset with training.trainer_type VERL_GRPO", "none");
  }
}

}  // namespace oumi
