// Whether trained weights can be what their file says: the one check of contents that files without hashes allow.
#pragma once

#include <string>

#include "oumi/tensors/tensor_dict.h"

namespace oumi {

// Throws UserError naming `origin`, the first tensor and the count when floating point values are NaN, infinite or, except
// in float16 and smaller types, 2^64 and more in size: that is what a flipped exponent bit makes of a weight. Reads all of
// `weights`, on all cores.
void check_weight_values(const StateDict& weights, const std::string& origin);

}  // namespace oumi
