#include "oumi/models/model.h"

#include <ATen/ops/cross_entropy_loss.h>

namespace oumi {

Criterion Model::criterion() const {
  return [](const Tensor& outputs, const Tensor& labels) { return at::cross_entropy_loss(outputs, labels); };
}

Outputs Model::operator()(const Batch& batch) {
  return call_path::call(*this, [this](const Batch& arguments) { return forward(arguments); }, batch);
}

void Model::set_identity(std::string model_type, Kwargs init_kwargs) {
  model_type_ = std::move(model_type);
  init_kwargs_ = std::move(init_kwargs);
}

}  // namespace oumi
