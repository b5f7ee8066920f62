#include "oumi/models/cnn_classifier/cnn_classifier.h"

#include <ATen/ops/dropout.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/nll_loss.h>
#include <ATen/ops/relu.h>

#include "oumi/models/model_inputs.h"

namespace oumi {

CnnClassifier::CnnClassifier(const Kwargs& kwargs) {
  kwargs.require<std::int64_t>("image_width"), kwargs.require<std::int64_t>("image_height");
  std::int64_t width = positive(kwargs, "image_width", 1), height = positive(kwargs, "image_height", 1);
  const auto in_channels = positive(kwargs, "in_channels", 3), output_dim = positive(kwargs, "output_dim", 10),
             kernel_size = positive(kwargs, "kernel_size", 5);
  // Each convolution trims kernel_size - 1 pixels; the second and third are halved by pooling.
  for (const bool halve : {false, true, true}) {
    width -= kernel_size - 1, height -= kernel_size - 1;
    if (halve) width /= 2, height /= 2;
    if (width <= 0 || height <= 0) {
      throw UserError(kwargs.origin(), cat("the image is too small for kernel_size=", kernel_size),
                      "use larger images or a smaller kernel_size");
    }
  }
  conv1 = register_module("conv1", nn::Conv2d(in_channels, 32, kernel_size));
  conv2 = register_module("conv2", nn::Conv2d(32, 32, kernel_size));
  conv3 = register_module("conv3", nn::Conv2d(32, 64, kernel_size));
  fc1 = register_module("fc1", nn::Linear(width * height * 64, 256));
  fc2 = register_module("fc2", nn::Linear(256, output_dim));
}

Outputs CnnClassifier::forward(const Batch& batch) {
  const Tensor* labels = batch.find("labels");
  const bool with_dropout = labels != nullptr && is_training();

  Tensor x = at::relu(conv1(first_of(batch, {"images"})));
  x = at::relu(at::max_pool2d(conv2(x), {2, 2}));
  x = at::dropout(x, 0.5, with_dropout);
  x = at::relu(at::max_pool2d(conv3(x), {2, 2}));
  x = at::dropout(x, 0.5, with_dropout);
  x = at::relu(fc1(x.flatten(1)));
  x = at::dropout(x, 0.5, with_dropout);
  const Tensor logits = fc2(x);  // [batch, output_dim]

  Outputs outputs{{"logits", logits}};
  if (labels != nullptr) outputs.set("loss", criterion()(at::log_softmax(logits, 1), *labels));
  return outputs;
}

Criterion CnnClassifier::criterion() const {
  return [](const Tensor& outputs, const Tensor& labels) { return at::nll_loss(outputs, labels); };
}

}  // namespace oumi
