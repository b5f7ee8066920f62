// Llama 2 and 3 and what has their shape: SmolLM2, DeepSeek-R1-Distill-Llama, TinyLlama, Yi.
// Touvron et al. 2023, arXiv:2307.09288; transformers/models/llama.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily llama_family();

}  // namespace oumi
