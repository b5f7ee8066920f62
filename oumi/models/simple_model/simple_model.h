// The model of Oumi's "Custom Models" page: two convolutions and one fully connected layer.
// relu(conv1(1 -> 20, 5x5)) -> max_pool 2 -> relu(conv2(20 -> 20, 5x5)) -> max_pool 2 -> flatten -> fc1(320 -> num_classes).
// On Fashion-MNIST (5 epochs, batch 64, AdamW 1e-3) it reaches a test accuracy of about 0.90.
#pragma once

#include "oumi/models/model.h"
#include "oumi/nn/layers.h"

namespace oumi {

// Batch: "model_inputs" (or "images") float [batch, 1, 28, 28], "labels" int64 [batch], optional.
// Outputs: "outputs" float [batch, num_classes]; "loss" with labels.
// Kwargs: num_classes (int, 10).
class SimpleModel : public Model {
 public:
  explicit SimpleModel(const Kwargs& kwargs = {});
  Outputs forward(const Batch& batch) override;

 private:
  nn::Conv2d conv1{nullptr}, conv2{nullptr};
  nn::Linear fc1{nullptr};
};

}  // namespace oumi
