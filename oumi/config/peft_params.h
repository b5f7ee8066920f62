// `peft:` - low-rank adapters and quantised base weights. One entry per field: peft_params.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oumi/config/enums.h"
#include "oumi/config/field.h"

namespace oumi {

struct PeftParams {
  std::int64_t lora_r = 8;
  std::int64_t lora_alpha = 8;
  double lora_dropout = 0.0;
  std::optional<std::vector<std::string>> lora_target_modules{};
  std::optional<std::vector<std::string>> lora_exclude_modules{};
  std::optional<std::vector<std::string>> lora_target_parameters{};
  std::optional<std::vector<std::string>> lora_modules_to_save{};
  std::string lora_bias = "none";
  LoraWeightInitialization lora_init_weights = LoraWeightInitialization::kDefault;
  TaskType lora_task_type = TaskType::kCausalLm;
  bool q_lora = false;
  std::int64_t q_lora_bits = 4;
  std::string bnb_4bit_quant_type = "fp4";
  std::optional<std::vector<std::string>> llm_int8_skip_modules{};
  bool use_bnb_nested_quant = false;
  std::string bnb_4bit_quant_storage = "uint8";
  std::string bnb_4bit_compute_dtype = "float32";
  PeftSaveMode peft_save_mode = PeftSaveMode::kAdapterOnly;

  bool operator==(const PeftParams&) const = default;
};

FieldList fields_of(const PeftParams*);

}  // namespace oumi
