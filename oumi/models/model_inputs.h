// Small helpers that models share when they read batches and kwargs.
#pragma once

#include <initializer_list>

#include "oumi/base/kwargs.h"
#include "oumi/tensors/batch.h"

namespace oumi {

// The first of `names` that the batch has. Throws UserError listing them and what the batch has instead.
const Tensor& first_of(const Batch& batch, std::initializer_list<const char*> names);

// An integer keyword argument that has to be at least 1.
std::int64_t positive(const Kwargs& kwargs, const char* name, std::int64_t fallback);

}  // namespace oumi
