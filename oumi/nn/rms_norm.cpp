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

Tensor RmsNormImpl::scale() const { return shards ? shards->sum_gradient(weight) : weight; }

Tensor RmsNormImpl::forward(const Tensor& input) { return kernels::rms_norm(input, scale(), options_); }

std::pair<Tensor, Tensor> RmsNormImpl::add(const Tensor& branch, const Tensor& residual) {
  const auto fused = [this](const Tensor& x, const Tensor& y) { return kernels::add_rms_norm(x, y, scale(), options_); };
  return call_path::call(*this, fused, branch, residual);
}

std::function<Tensor()> RmsNormImpl::again(const Tensor& input) const {
  return [input = input.detach(), weight = weight.detach().clone(), options = options_] {
    return kernels::rms_norm(input, weight, options);
  };
}

}  // namespace oumi::nn
