// The page's model, written as your own: two convolutions, one fully connected layer, a loss through the criterion.
#pragma once

#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <oumi/oumi.h>

class CustomModel : public oumi::Model {
 public:
  // Keyword arguments come from model.model_kwargs; a misspelled one is an error.
  explicit CustomModel(const oumi::Kwargs& kwargs = {}) {
    conv1 = register_module("conv1", oumi::nn::Conv2d(1, 20, 5));
    conv2 = register_module("conv2", oumi::nn::Conv2d(20, 20, 5));
    fc1 = register_module("fc1", oumi::nn::Linear(20 * 4 * 4, kwargs.get<std::int64_t>("num_classes", 10)));
  }

  // Takes everything that the loader yields. Labels are optional; with them there is a loss.
  oumi::Outputs forward(const oumi::Batch& batch) override {
    oumi::Tensor hidden = at::max_pool2d(at::relu(conv1(batch.at("images"))), {2, 2});
    hidden = at::max_pool2d(at::relu(conv2(hidden)), {2, 2});
    const oumi::Tensor outputs = fc1(hidden.flatten(1));
    const oumi::Tensor* labels = batch.find("labels");
    return {{"outputs", outputs}, {"loss", labels ? criterion()(outputs, *labels) : oumi::Tensor()}};
  }

 private:
  oumi::nn::Conv2d conv1{nullptr}, conv2{nullptr};
  oumi::nn::Linear fc1{nullptr};
};
