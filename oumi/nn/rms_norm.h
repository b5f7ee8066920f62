// Root-mean-square normalisation as a layer.
#pragma once

#include <cstdint>
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

  Tensor weight;  // [size]: ones, or zeros where the scale is 1 + weight
  // Set where each rank of a tensor-parallel group normalises its own tokens or heads: the weight's gradient is the sum.
  std::shared_ptr<const TensorParallel> shards;

 protected:
  RmsNormOptions options_;
};
OUMI_MODULE(RmsNorm);

}  // namespace oumi::nn
