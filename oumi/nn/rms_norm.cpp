#include "oumi/nn/rms_norm.h"

#include <torch/types.h>

#include "oumi/distributed/tensor_parallel.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi::nn {

RmsNormImpl::RmsNormImpl(std::int64_t size, RmsNormOptions options) : options_(options) {
  weight = register_parameter("weight", empty_parameter({size}).fill_(options.unit_offset ? 0 : 1));
  const auto& parallel = ParameterScope::current().tensor_parallel;
  if (parallel && parallel->sequence_parallel()) shards = parallel;
}

Tensor RmsNormImpl::forward(const Tensor& input) {
  return kernels::rms_norm(input, shards ? shards->sum_gradient(weight) : weight, options_);
}

}  // namespace oumi::nn
