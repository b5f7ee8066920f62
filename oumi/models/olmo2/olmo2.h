// OLMo 2: norms after each part, and on all heads of queries and keys at once. OLMo Team 2024, arXiv:2501.00656;
// transformers/models/olmo2.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily olmo2_family();

}  // namespace oumi
