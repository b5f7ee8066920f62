// Qwen 3 with experts: each token goes through a few of many feed-forward parts. Yang et al. 2025, arXiv:2505.09388;
// transformers/models/qwen3_moe.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily qwen3_moe_family();

}  // namespace oumi
