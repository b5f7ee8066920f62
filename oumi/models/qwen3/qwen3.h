// Qwen 3, dense: norms on each head's query and key. Yang et al. 2025, arXiv:2505.09388; transformers/models/qwen3.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily qwen3_family();

}  // namespace oumi
