#include "oumi/models/adapters/quantize_model.h"

#include <torch/types.h>

#include <algorithm>

#include "oumi/base/strings.h"
#include "oumi/models/adapters/linear_layers.h"
#include "oumi/models/build_model.h"
#include "oumi/models/language_model.h"
#include "oumi/nn/quantized_linear.h"

namespace oumi {
namespace {

// Transformers matches a skipped name anywhere in the module's.
bool is_skipped(const std::string& name, const PeftParams& params) {
  if (!params.llm_int8_skip_modules) return false;
  return std::any_of(params.llm_int8_skip_modules->begin(), params.llm_int8_skip_modules->end(),
                     [&](const std::string& skipped) {
                       return name == skipped || name.ends_with("." + skipped) || name.starts_with(skipped + ".") ||
                              name.find("." + skipped + ".") != std::string::npos;
                     });
}

}  // namespace

std::int64_t quantize_model(Model& model, const PeftParams& params) {
  if (params.q_lora_bits != 4) {
    throw UserError("peft.q_lora_bits", cat("8-bit base weights are not built: expected 4, got ", params.q_lora_bits),
                    "set peft.q_lora_bits: 4");
  }
  nn::QuantizeOptions options{
      .type = to_lower(params.bnb_4bit_quant_type) == "nf4" ? kernels::FourBitType::kNf4 : kernels::FourBitType::kFp4,
      .nested = params.use_bnb_nested_quant};
  const std::string compute = to_lower(params.bnb_4bit_compute_dtype);
  if (compute == "bfloat16" || compute == "bf16") {
    options.compute_dtype = at::kBFloat16;
  } else if (compute != "float32" && compute != "fp32" && compute != "float") {
    throw UserError("peft.bnb_4bit_compute_dtype", "expected float32 or bfloat16, got '" + params.bnb_4bit_compute_dtype + "'");
  }
  auto* language = dynamic_cast<LanguageModel*>(&model);
  const nn::LinearImpl* head = language == nullptr ? nullptr : language->output_head().get();
  std::int64_t count = 0;
  for (const LinearLayer& layer : linear_layers(model)) {
    if (layer.module == head || is_skipped(layer.name, params)) continue;
    nn::quantize(*layer.module, options);
    ++count;
  }
  if (count == 0)
    throw UserError("peft.q_lora", "expected a model with linear layers of oumi::nn to quantise, got none",
                    "set peft.q_lora: false");
  for (Tensor& parameter : model.parameters()) {
    parameter.requires_grad_(false);
    if (parameter.scalar_type() == at::kHalf || parameter.scalar_type() == at::kBFloat16)
      parameter.set_data(parameter.data().to(at::kFloat));
  }
  return count;
}

}  // namespace oumi
