// What a loss that fails on its labels means to say.
#pragma once

#include <string>

#include "oumi/models/model.h"

namespace oumi {

// Call when a loss failed: "sample 37: expected a label of 0 to 9, or -100 to leave it out, got 11" for the first label of
// `batch` that `model` has no class for; empty when labels are not the reason. Runs the model once more without labels.
std::string describe_bad_label(Model& model, const Batch& batch);

}  // namespace oumi
