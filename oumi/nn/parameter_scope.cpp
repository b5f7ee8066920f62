#include "oumi/nn/parameter_scope.h"

#include <ATen/ops/empty.h>
#include <torch/types.h>

namespace oumi::nn {
namespace {
thread_local ParameterDefaults defaults_now;
}  // namespace

ParameterScope::ParameterScope(ParameterDefaults defaults) : outer_(defaults_now) { defaults_now = defaults; }
ParameterScope::~ParameterScope() { defaults_now = outer_; }
const ParameterDefaults& ParameterScope::current() { return defaults_now; }

Tensor empty_parameter(c10::IntArrayRef sizes) {
  c10::TensorOptions options;
  if (defaults_now.dtype) options = options.dtype(*defaults_now.dtype);
  if (defaults_now.device) options = options.device(*defaults_now.device);
  return torch::empty(sizes, options);
}

}  // namespace oumi::nn
