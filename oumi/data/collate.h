// Collators: samples in, one batch out.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/tensors/batch.h"

namespace oumi {

using CollateFn = std::function<Batch(const std::vector<Sample>&)>;

// PyTorch's default_collate for dicts of tensors: stacks each field along a new first dimension. Every sample must have the
// first sample's fields, shapes and dtypes; throws UserError naming the field, the sample and both shapes otherwise.
Batch default_collate(const std::vector<Sample>& samples);

}  // namespace oumi
