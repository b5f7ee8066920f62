// QLoRA's base: a model whose frozen linear layers are held in 4 bits.
#pragma once

#include "oumi/config/peft_params.h"
#include "oumi/models/model.h"

namespace oumi {

// Quantises every linear layer of `model` but a language model's head and those that llm_int8_skip_modules names, as
// Transformers does with bitsandbytes, one at a time; what stays dense is frozen and, in half precision, becomes float32, as
// PEFT's prepare_model_for_kbit_training. Returns the number of layers. Before adapters are put on. Throws UserError naming
// peft.<field> for 8 bits and for compute types other than float32 and bfloat16.
std::int64_t quantize_model(Model& model, const PeftParams& params);

}  // namespace oumi
