#include "oumi/models/simple_model/simple_model.h"

#include "oumi/models/model_inputs.h"

namespace oumi {

SimpleModel::SimpleModel(const Kwargs& kwargs) {
  const auto num_classes = positive(kwargs, "num_classes", 10);
  conv1 = register_module("conv1", nn::Conv2d(1, 20, 5));
  conv2 = register_module("conv2", nn::Conv2d(20, 20, 5));
  fc1 = register_module("fc1", nn::Linear(20 * 4 * 4, num_classes));
}

Outputs SimpleModel::forward(const Batch& batch) {
  Tensor hidden = first_of(batch, {"model_inputs", "images"});  // [batch, 1, 28, 28]
  hidden = conv1->relu_pool(hidden);                            // [batch, 20, 12, 12]
  hidden = conv2->relu_pool(hidden);                            // [batch, 20, 4, 4]
  const Tensor outputs = fc1(hidden.flatten(1));                // [batch, num_classes]

  const Tensor* labels = batch.find("labels");
  return {{"outputs", outputs}, {"loss", labels ? criterion()(outputs, *labels) : Tensor()}};
}

}  // namespace oumi
