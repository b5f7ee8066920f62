// Where the whole weights of a model come from that no rank has all of.
#pragma once

#include <string>

#include "oumi/tensors/tensor_dict.h"

namespace oumi {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // All parameters and buffers by name; those that have to be gathered as meta tensors of the whole's shape and dtype.
  virtual const StateDict& shapes() const = 0;
  // The whole of one of them. A collective.
  virtual Tensor gather(const std::string& name) = 0;
};

}  // namespace oumi
