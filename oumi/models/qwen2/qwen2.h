// Qwen 2 and 2.5, DeepSeek-R1-Distill-Qwen: Llama's blocks with biases on q, k and v, and sliding windows on later layers where
// the config asks for them. Yang et al. 2024, arXiv:2407.10671; transformers/models/qwen2.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily qwen2_family();

}  // namespace oumi
