// Oumi's CnnClassifier (oumi/models/cnn_classifier.py): the same names, kwargs, state-dict keys and outputs.
#pragma once

#include "oumi/models/model.h"
#include "oumi/nn/layers.h"

namespace oumi {

// Batch: "images" float [batch, in_channels, image_height, image_width], "labels" int64 [batch], optional.
// Outputs: "logits" float [batch, output_dim]; "loss" (negative log likelihood of log_softmax) with labels.
// Kwargs: image_width, image_height (required), in_channels (3), output_dim (10), kernel_size (5).
// As in Oumi, dropout is on exactly when labels are given in training mode; in evaluation mode it is off, where Oumi leaves
// it on and its evaluation loss is random.
class CnnClassifier : public Model {
 public:
  static constexpr const char* kModelType = "CNNClassifier";  // the class in Oumi, whose from_pretrained compares it
  explicit CnnClassifier(const Kwargs& kwargs);
  Outputs forward(const Batch& batch) override;
  // (log-probabilities, labels) -> mean negative log likelihood; labels of -100 ignored.
  Criterion criterion() const override;

 private:
  nn::Conv2d conv1{nullptr}, conv2{nullptr}, conv3{nullptr};
  nn::Linear fc1{nullptr}, fc2{nullptr};
};

}  // namespace oumi
