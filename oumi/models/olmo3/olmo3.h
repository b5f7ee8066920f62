// OLMo 3: OLMo 2's blocks, three layers with a sliding window to one without; context scaling applies to the latter alone.
// transformers/models/olmo3.
#pragma once

#include "oumi/models/language_models.h"

namespace oumi {

LanguageModelFamily olmo3_family();

}  // namespace oumi
