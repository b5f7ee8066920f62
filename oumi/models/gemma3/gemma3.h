// Gemma 3, text: Gemma 2's blocks with norms on queries and keys, five layers with a sliding window to one without, and other
// rotary frequencies on the former. Of a multimodal folder, the text part. Gemma Team 2025, arXiv:2503.19786;
// transformers/models/gemma3.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily gemma3_family();

}  // namespace oumi
