// Mistral: Llama's blocks with a sliding window on every layer. Jiang et al. 2023, arXiv:2310.06825;
// transformers/models/mistral.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily mistral_family();

}  // namespace oumi
