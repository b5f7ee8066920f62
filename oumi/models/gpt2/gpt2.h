// GPT-2: learned positions, LayerNorm, one projection for q, k and v. Radford et al. 2019; transformers/models/gpt2.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily gpt2_family();

}  // namespace oumi
