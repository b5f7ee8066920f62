// Phi 3, 3.5 and 4 (text): fused projections, long-context rotary factors. Abdin et al. 2024, arXiv:2404.14219;
// transformers/models/phi3.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily phi3_family();

}  // namespace oumi
