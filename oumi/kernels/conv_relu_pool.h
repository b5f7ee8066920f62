// Convolution, ReLU and 2 x 2 max-pooling of small images in one pass.
#pragma once

#include "oumi/tensors/tensor_dict.h"

namespace oumi::kernels {

// max_pool2d(relu(conv2d(x, weight, bias)), 2): stride 1, no padding, square filters.
//
// x [batch, channels, height, width], weight [filters, channels, size, size], bias [filters] -> [batch, filters, (height - size
// + 1) / 2, (width - size + 1) / 2], rounded down. float32 on the CPU runs fused: four products share each weight load, the
// convolution's output is never written, and backward visits only the pixels that won their window, a quarter of the products.
// The result is then in channels-last memory order. Anything else, and images that take more than half a MiB, composes
// LibTorch's operations. Gradients flow to the first of equal maxima, as in PyTorch. Error against float64: 2 eps *
// sqrt(channels * size^2) * max|x| * max|weight|. Saves x (or its channels-last copy), weight and a byte an output. The same
// bits at any number of threads. Sums run in the order of oneDNN's direct convolution: on an AVX2 processor the result and its
// gradients equal those of LibTorch's operations on one thread bit for bit. Throws UserError on shapes that do not fit.
Tensor conv_relu_pool(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace oumi::kernels
