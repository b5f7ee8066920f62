// Rules between fields, and ranges of single ones.
#pragma once

#include "oumi/config/training_config.h"

namespace oumi {

// Throws UserError naming the dotted key of the first rule that `config` breaks. Looks at no path, device or network.
void validate(const TrainingConfig& config);

}  // namespace oumi
