// B batch, C channels, F filters, K filter size, P and Q pooled height and width.
#include "oumi/kernels/conv_relu_pool.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <vector>

#include "oumi/kernels/checks.h"
#include "oumi/kernels/composed.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Images a thread takes at a time; partial sums of the weight's gradient are kept for each block and added in order.
constexpr std::int64_t kBlockImages = 4;
constexpr std::int64_t kSlack = 8;
constexpr std::int64_t kMostImageFloats = 1 << 17;

cpu::ConvReluPool shape_of(const Tensor& x, const Tensor& weight) {
  return {x.size(2), x.size(3), x.size(1), weight.size(0), weight.size(2)};
}

// An empty tensor [B, F, P, Q] in channels-last order.
Tensor channels_last(at::IntArrayRef sizes, const at::TensorOptions& options) { return at::empty(sizes, options, at::MemoryFormat::ChannelsLast); }

// [filter blocks, K, K * C, kFilterBlock], zeros beyond the last filter.
Tensor pack_for_forward(const Tensor& weight, const cpu::ConvReluPool& shape) {
  const std::int64_t blocks = (shape.filters + cpu::kFilterBlock - 1) / cpu::kFilterBlock, run = shape.size * shape.channels;
  const Tensor packed = at::zeros({blocks, shape.size, run, cpu::kFilterBlock}, weight.options());
  const float* from = weight.const_data_ptr<float>();
  float* to = packed.mutable_data_ptr<float>();
  for (std::int64_t f = 0; f < shape.filters; ++f) {
    float* block = to + f / cpu::kFilterBlock * shape.size * run * cpu::kFilterBlock + f % cpu::kFilterBlock;
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      for (std::int64_t row = 0; row < shape.size; ++row) {
        for (std::int64_t column = 0; column < shape.size; ++column) {
          block[(row * run + column * shape.channels + c) * cpu::kFilterBlock] = *from++;
        }
      }
    }
  }
  return packed;
}

// [F, K, run_length] and back, from and to [F, C, K, K].
void pack_runs(const cpu::ConvReluPool& shape, const float* weight, float* runs) {
  const std::int64_t run = shape.run_length();
  for (std::int64_t f = 0; f < shape.filters; ++f) {
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      for (std::int64_t row = 0; row < shape.size; ++row) {
        for (std::int64_t column = 0; column < shape.size; ++column) runs[(f * shape.size + row) * run + column * shape.channels + c] = *weight++;
      }
    }
  }
}

void unpack_runs(const cpu::ConvReluPool& shape, const float* runs, float* weight) {
  const std::int64_t run = shape.run_length();
  for (std::int64_t f = 0; f < shape.filters; ++f) {
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      for (std::int64_t row = 0; row < shape.size; ++row) {
        for (std::int64_t column = 0; column < shape.size; ++column) *weight++ = runs[(f * shape.size + row) * run + column * shape.channels + c];
      }
    }
  }
}

// Calls action(first image, last image, block) for each block of images.
template <class Action>
void for_blocks(std::int64_t images, const Action& action) {
  const std::int64_t blocks = (images + kBlockImages - 1) / kBlockImages;
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) action(block * kBlockImages, std::min(images, (block + 1) * kBlockImages), block);
  });
}

// A thread's copy of an image with room at its end.
float* image_scratch(std::size_t slot, std::int64_t size) {
  thread_local std::vector<float> buffers[2];
  buffers[slot].resize(static_cast<std::size_t>(size));
  return buffers[slot].data();
}

class ConvReluPool : public torch::autograd::Function<ConvReluPool> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const cpu::ConvReluPool shape = shape_of(x, weight);
    const std::int64_t images = x.size(0), pixels = shape.height * shape.width * shape.channels;
    const Tensor input = x.contiguous(at::MemoryFormat::ChannelsLast), filters = weight.contiguous();
    const Tensor packed = pack_for_forward(filters, shape);
    const Tensor padded_bias = at::zeros({packed.size(0) * cpu::kFilterBlock}, x.options());
    padded_bias.narrow(0, 0, shape.filters).copy_(bias);
    const Tensor out = channels_last({images, shape.filters, shape.pooled_height(), shape.pooled_width()}, x.options());
    const std::int64_t outputs = shape.filters * shape.pooled_height() * shape.pooled_width();
    const Tensor winners = at::empty({images, outputs}, x.options().dtype(at::kByte));
    const auto* from = input.const_data_ptr<float>();
    auto* to = out.mutable_data_ptr<float>();
    auto* winner = winners.mutable_data_ptr<std::uint8_t>();
    for_blocks(images, [&](std::int64_t first, std::int64_t last, std::int64_t) {
      for (std::int64_t i = first; i < last; ++i) {
        cpu::simd().conv_relu_pool_forward(shape, from + i * pixels, packed.const_data_ptr<float>(), padded_bias.const_data_ptr<float>(), to + i * outputs,
                                           winner + i * outputs);
      }
    });
    context->save_for_backward({input, filters, winners});
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &input = saved[0], &weight = saved[1], &winners = saved[2];
    const cpu::ConvReluPool shape = shape_of(input, weight);
    const std::int64_t images = input.size(0), pixels = shape.height * shape.width * shape.channels, outputs = winners.size(1);
    const std::int64_t blocks = (images + kBlockImages - 1) / kBlockImages, run_floats = shape.filters * shape.size * shape.run_length();
    const Tensor upstream = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    const Tensor runs = at::zeros({run_floats}, weight.options());
    pack_runs(shape, weight.const_data_ptr<float>(), runs.mutable_data_ptr<float>());
    const Tensor partial = at::zeros({blocks, run_floats + shape.filters}, weight.options());  // weight's and bias's gradients
    const Tensor grad_input = context->needs_input_grad(0) ? channels_last(input.sizes(), input.options()) : Tensor();
    for_blocks(images, [&](std::int64_t first, std::int64_t last, std::int64_t block) {
      float *image = image_scratch(0, pixels + kSlack), *grad_image = grad_input.defined() ? image_scratch(1, pixels + kSlack) : nullptr;
      std::memset(image + pixels, 0, kSlack * sizeof(float));
      float* grad_weight = partial.mutable_data_ptr<float>() + block * partial.size(1);
      for (std::int64_t i = first; i < last; ++i) {
        std::memcpy(image, input.const_data_ptr<float>() + i * pixels, static_cast<std::size_t>(pixels) * sizeof(float));
        if (grad_image != nullptr) std::memset(grad_image, 0, static_cast<std::size_t>(pixels + kSlack) * sizeof(float));
        cpu::simd().conv_relu_pool_backward(shape, image, runs.const_data_ptr<float>(), winners.const_data_ptr<std::uint8_t>() + i * outputs,
                                            upstream.const_data_ptr<float>() + i * outputs, grad_weight, grad_weight + run_floats, grad_image);
        if (grad_image != nullptr) std::memcpy(grad_input.mutable_data_ptr<float>() + i * pixels, grad_image, static_cast<std::size_t>(pixels) * sizeof(float));
      }
    });
    const Tensor total = partial.sum(0);
    const Tensor grad_weight = at::empty(weight.sizes(), weight.options());
    unpack_runs(shape, total.const_data_ptr<float>(), grad_weight.mutable_data_ptr<float>());
    return {grad_input, grad_weight, total.narrow(0, run_floats, shape.filters).clone()};
  }
};

}  // namespace

Tensor conv_relu_pool(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  expect(x.dim() == 4 && weight.dim() == 4 && x.size(1) == weight.size(1) && weight.size(2) == weight.size(3) && x.size(2) > weight.size(2) &&
             x.size(3) > weight.size(3) && bias.dim() == 1 && bias.size(0) == weight.size(0),
         "conv_relu_pool", "x [batch, channels, height > size, width > size], weight [filters, channels, size, size] and bias [filters]", x.sizes(), ", ",
         weight.sizes(), ", ", bias.sizes());
  const auto fits = [](const Tensor& tensor) { return cpu::has_loops(tensor) && tensor.scalar_type() == at::kFloat; };
  const bool fused = fits(x) && fits(weight) && fits(bias) && x.size(0) > 0 && x.numel() / x.size(0) <= kMostImageFloats;
  return fused ? ConvReluPool::apply(x, weight, bias) : composed::conv_relu_pool(x, weight, bias);
}

}  // namespace oumi::kernels
