// Gemma 2: norms before and after each part, capped scores and logits, every other layer with a sliding window.
// Gemma Team 2024, arXiv:2408.00118; transformers/models/gemma2.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily gemma2_family();

}  // namespace oumi
