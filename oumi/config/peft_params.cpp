#include "oumi/config/peft_params.h"

#include "oumi/config/codec.h"

namespace oumi {

FieldList fields_of(const PeftParams*) {
  using P = PeftParams;
  static constexpr Field kFields[] = {
      field<&P::lora_r>("lora_r", "", "Rank of the update matrices."),
      field<&P::lora_alpha>("lora_alpha", "", "Scale of the update: lora_alpha / lora_r."),
      field<&P::lora_dropout>("lora_dropout", "", "Dropout before the update, 0 to 1."),
      field<&P::lora_target_modules>("lora_target_modules", "",
                                     "Modules to adapt, by the end of their name; all-linear is every linear but the head."),
      field<&P::lora_exclude_modules>("lora_exclude_modules", "", "Modules left as they are, by regular expression."),
      field<&P::lora_target_parameters>("lora_target_parameters", "",
                                        "Parameters to adapt, where they aren't a module's weight; not built."),
      field<&P::lora_modules_to_save>("lora_modules_to_save", "", "Modules trained in full and saved with the adapter."),
      field<&P::lora_bias>("lora_bias", "", "Biases to train: none, all or lora_only."),
      field<&P::lora_init_weights>("lora_init_weights", "", "How the update starts."),
      field<&P::lora_task_type>("lora_task_type", "", "Task written into adapter_config.json."),
      field<&P::q_lora>("q_lora", "", "Hold the frozen base weights quantised."),
      field<&P::q_lora_bits>("q_lora_bits", "bits", "Bits of a quantised weight: 4 or 8."),
      field<&P::bnb_4bit_quant_type>("bnb_4bit_quant_type", "", "4-bit format: fp4 or nf4."),
      field<&P::llm_int8_skip_modules>("llm_int8_skip_modules", "", "Modules that stay unquantised."),
      field<&P::use_bnb_nested_quant>("use_bnb_nested_quant", "", "Quantise the scales too."),
      field<&P::bnb_4bit_quant_storage>("bnb_4bit_quant_storage", "", "Element type that packed weights are stored as."),
      field<&P::bnb_4bit_compute_dtype>("bnb_4bit_compute_dtype", "", "Element type of products with quantised weights."),
      field<&P::peft_save_mode>("peft_save_mode", "", "What a finished run saves."),
  };
  return kFields;
}

}  // namespace oumi
