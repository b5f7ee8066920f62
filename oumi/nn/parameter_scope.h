// How layers make their parameters: with initial values or without (weights that a checkpoint overwrites need none), of which
// dtype, on which device.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <memory>
#include <optional>

#include "oumi/tensors/tensor_dict.h"

namespace oumi {
class TensorParallel;
}

namespace oumi::nn {

struct ParameterDefaults {
  bool initialize = true;  // false: memory that nobody has touched, which costs nothing until it is written
  std::optional<c10::ScalarType> dtype{};
  std::optional<c10::Device> device{};  // kMeta: shapes alone
  std::shared_ptr<const TensorParallel>
      tensor_parallel{};  // layers that can be spread over it take their part (parallel_layers.h)
};

// In force on this thread for the scope's length.
class ParameterScope {
 public:
  explicit ParameterScope(ParameterDefaults defaults);
  ~ParameterScope();
  ParameterScope(const ParameterScope&) = delete;
  ParameterScope& operator=(const ParameterScope&) = delete;

  static const ParameterDefaults& current();

 private:
  ParameterDefaults outer_;
};

// An uninitialised tensor of the scope's dtype and device.
Tensor empty_parameter(c10::IntArrayRef sizes);

}  // namespace oumi::nn
