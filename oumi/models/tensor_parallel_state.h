// The weights of a model that is spread over a tensor-parallel group: which part of what each rank has, from whole weights and
// back.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "oumi/distributed/tensor_parallel.h"
#include "oumi/models/weight_source.h"
#include "oumi/tensors/module.h"

namespace oumi {

// The parameters that ranks have parts of, by name; all others are whole and equal on every rank.
std::map<std::string, TensorSplit> tensor_splits(const torch::nn::Module& model);

// This rank's part of each tensor of `whole`: views where the parts are in one piece, so that of mapped files no more is read
// than a rank needs. Throws UserError naming a tensor whose shape is not the whole model's.
StateDict own_parts(const torch::nn::Module& model, const StateDict& whole, const std::string& origin);

// On rank 0 of the group: the whole of one parameter at a time. The other ranks are in send_parts until this is gone. `own` is
// where this rank's parts come from when they are sharded in their turn; nullptr: the model has them.
class WholeWeights final : public WeightSource {
 public:
  WholeWeights(const torch::nn::Module& model, const TensorParallel& parallel, std::shared_ptr<WeightSource> own);
  ~WholeWeights() override;
  WholeWeights(const WholeWeights&) = delete;
  WholeWeights& operator=(const WholeWeights&) = delete;

  const StateDict& shapes() const override { return shapes_; }
  Tensor gather(const std::string& name) override;

 private:
  const TensorParallel& parallel_;
  std::shared_ptr<WeightSource> own_;
  StateDict shapes_;
  std::map<std::string, TensorSplit> splits_;
};
void send_parts(const torch::nn::Module& model, const TensorParallel& parallel, std::shared_ptr<WeightSource> own);

}  // namespace oumi
