// Root-mean-square normalisation as a layer.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "oumi/kernels/norm.h"
#include "oumi/tensors/module.h"

namespace oumi {
class TensorParallel;
}

namespace oumi::nn {

using kernels::RmsNormOptions;

class RmsNormImpl : public Module {
 public:
  RmsNormImpl(std::int64_t size, RmsNormOptions options);
  // [*, size] -> the same shape.
  virtual Tensor forward(const Tensor& input);
  // {forward(branch + residual), branch + residual} in one pass. A call of this module as forward is: hooks run around both.
  std::pair<Tensor, Tensor> add(const Tensor& branch, const Tensor& residual);
  // forward(input) again at any later time, by today's weight.
  std::function<Tensor()> again(const Tensor& input) const;

  Tensor weight;  // [size]: ones, or zeros where the scale is 1 + weight
  // Set where each rank of a tensor-parallel group normalises its own tokens or heads: the weight's gradient is the sum.
  std::shared_ptr<const TensorParallel> shards;

 protected:
  Tensor scale() const;

  RmsNormOptions options_;
};
OUMI_MODULE(RmsNorm);

}  // namespace oumi::nn
