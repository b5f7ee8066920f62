// Weights that are not made yet: the parameters are memory that nobody has touched.
#pragma once

#include <functional>
#include <string>

#include "oumi/tensors/tensor_dict.h"

namespace oumi {

using TakeWeight = std::function<void(const std::string& name, const Tensor& value)>;

class DeferredWeights {
 public:
  virtual ~DeferredWeights() = default;
  // Whether this parameter (by its first name) is among them; others have their values.
  virtual bool has(const std::string& parameter) const = 0;
  // Makes them one by one, with the values that a whole model has, the same on every call. `take` needs no parameter's memory:
  // they may have been sharded meanwhile.
  virtual void take(const TakeWeight& take) = 0;
};

}  // namespace oumi
