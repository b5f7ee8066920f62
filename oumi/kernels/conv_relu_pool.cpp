// B batch, C channels, F filters, K filter size, P and Q pooled height and width.
#include "oumi/kernels/conv_relu_pool.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
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

constexpr std::int64_t kSlack = 8;
constexpr std::int64_t kMostImageFloats = 1 << 17;

cpu::ConvReluPool shape_of(const Tensor& x, const Tensor& weight) {
  return {x.size(2), x.size(3), x.size(1), weight.size(0), weight.size(2)};
}

// An empty tensor [B, F, P, Q] in channels-last order.
Tensor channels_last(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return at::empty(sizes, options, at::MemoryFormat::ChannelsLast);
}

// A window's products in the order of the sum: the filter's [C, K, K] index and the offset into an image in channels-last
// order.
struct Products {
  std::vector<std::int32_t> filter, image;
};

Products products_of(const cpu::ConvReluPool& shape) {
  const std::int64_t block = cpu::simd().channel_block;
  Products products;
  for (std::int64_t first = 0; first < shape.channels; first += block) {
    for (std::int64_t row = 0; row < shape.size; ++row) {
      for (std::int64_t column = 0; column < shape.size; ++column) {
        for (std::int64_t c = first; c < std::min(first + block, shape.channels); ++c) {
          products.filter.push_back(static_cast<std::int32_t>((c * shape.size + row) * shape.size + column));
          products.image.push_back(static_cast<std::int32_t>((row * shape.width + column) * shape.channels + c));
        }
      }
    }
  }
  return products;
}

// [filter blocks, products, kFilterBlock], zeros beyond the last filter.
Tensor pack_for_forward(const Tensor& weight, const cpu::ConvReluPool& shape, const Products& products) {
  const auto count = static_cast<std::int64_t>(products.filter.size()),
             blocks = (shape.filters + cpu::kFilterBlock - 1) / cpu::kFilterBlock;
  const Tensor packed = at::zeros({blocks, count, cpu::kFilterBlock}, weight.options());
  const float* from = weight.const_data_ptr<float>();
  float* to = packed.mutable_data_ptr<float>();
  for (std::int64_t f = 0; f < shape.filters; ++f) {
    float* lane = to + f / cpu::kFilterBlock * count * cpu::kFilterBlock + f % cpu::kFilterBlock;
    for (std::int64_t i = 0; i < count; ++i)
      lane[i * cpu::kFilterBlock] = from[f * count + products.filter[static_cast<std::size_t>(i)]];
  }
  return packed;
}

// [F, K, run_length] and back, from and to [F, C, K, K].
void pack_runs(const cpu::ConvReluPool& shape, const float* weight, float* runs) {
  const std::int64_t run = shape.run_length();
  for (std::int64_t f = 0; f < shape.filters; ++f) {
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      for (std::int64_t row = 0; row < shape.size; ++row) {
        for (std::int64_t column = 0; column < shape.size; ++column)
          runs[(f * shape.size + row) * run + column * shape.channels + c] = *weight++;
      }
    }
  }
}

void unpack_runs(const cpu::ConvReluPool& shape, const float* runs, float* weight) {
  const std::int64_t run = shape.run_length();
  for (std::int64_t f = 0; f < shape.filters; ++f) {
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      for (std::int64_t row = 0; row < shape.size; ++row) {
        for (std::int64_t column = 0; column < shape.size; ++column)
          *weight++ = runs[(f * shape.size + row) * run + column * shape.channels + c];
      }
    }
  }
}

// An image's products; backward takes a quarter of them, without registers.
std::int64_t work_of(const cpu::ConvReluPool& shape) {
  return 4 * shape.pooled_height() * shape.pooled_width() * shape.filters * shape.channels * shape.size * shape.size;
}

// Calls action(image) for each image; threads share them out.
template <class Action>
void for_images(std::int64_t images, const cpu::ConvReluPool& shape, const Action& action) {
  cpu::parallel_for(0, images, cpu::grain_of(work_of(shape)), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) action(i);
  });
}

// A thread's copy of an image with room at its end.
float* image_scratch(std::int64_t size) {
  thread_local std::vector<float> buffer;
  buffer.resize(static_cast<std::size_t>(size));
  return buffer.data();
}

class ConvReluPool : public torch::autograd::Function<ConvReluPool> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const cpu::ConvReluPool shape = shape_of(x, weight);
    const std::int64_t images = x.size(0), pixels = shape.height * shape.width * shape.channels;
    const Tensor input = x.contiguous(at::MemoryFormat::ChannelsLast), filters = weight.contiguous();
    const Products products = products_of(shape);
    const Tensor packed = pack_for_forward(filters, shape, products);
    const Tensor padded_bias = at::zeros({packed.size(0) * cpu::kFilterBlock}, x.options());
    padded_bias.narrow(0, 0, shape.filters).copy_(bias);
    const Tensor out = channels_last({images, shape.filters, shape.pooled_height(), shape.pooled_width()}, x.options());
    const std::int64_t outputs = shape.filters * shape.pooled_height() * shape.pooled_width();
    const Tensor winners = at::empty({images, outputs}, x.options().dtype(at::kByte));
    const auto* from = input.const_data_ptr<float>();
    auto* to = out.mutable_data_ptr<float>();
    auto* winner = winners.mutable_data_ptr<std::uint8_t>();
    for_images(images, shape, [&](std::int64_t i) {
      cpu::simd().conv_relu_pool_forward(shape, from + i * pixels, packed.const_data_ptr<float>(), products.image.data(),
                                         padded_bias.const_data_ptr<float>(), to + i * outputs, winner + i * outputs);
    });
    context->save_for_backward({input, filters, winners});
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &input = saved[0], &weight = saved[1], &winners = saved[2];
    const cpu::ConvReluPool shape = shape_of(input, weight);
    const std::int64_t images = input.size(0), pixels = shape.height * shape.width * shape.channels, outputs = winners.size(1);
    const std::int64_t run_floats = shape.filters * shape.size * shape.run_length();
    const Tensor upstream = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    const auto* winner = winners.const_data_ptr<std::uint8_t>();
    const auto* grad_out = upstream.const_data_ptr<float>();
    // Each filter's sum goes through the images in order: the same bits at any number of threads.
    const Tensor total = at::zeros({run_floats + shape.filters}, weight.options());
    float* grad_weight_runs = total.mutable_data_ptr<float>();
    cpu::parallel_for(
        0, shape.filters, cpu::grain_of(images * work_of(shape) / shape.filters), [&](std::int64_t first, std::int64_t last) {
          float* image = image_scratch(pixels + kSlack);
          std::memset(image + pixels, 0, kSlack * sizeof(float));
          for (std::int64_t i = 0; i < images; ++i) {
            std::memcpy(image, input.const_data_ptr<float>() + i * pixels, static_cast<std::size_t>(pixels) * sizeof(float));
            cpu::simd().conv_relu_pool_backward_weight(shape, image, winner + i * outputs, grad_out + i * outputs, first, last,
                                                       grad_weight_runs, grad_weight_runs + run_floats);
          }
        });
    const Tensor grad_weight = at::empty(weight.sizes(), weight.options());
    unpack_runs(shape, grad_weight_runs, grad_weight.mutable_data_ptr<float>());
    Tensor grad_input;
    if (context->needs_input_grad(0)) {
      grad_input = channels_last(input.sizes(), input.options());
      const Tensor runs = at::zeros({run_floats}, weight.options());
      pack_runs(shape, weight.const_data_ptr<float>(), runs.mutable_data_ptr<float>());
      for_images(images, shape, [&](std::int64_t i) {
        float* image = image_scratch(2 * (pixels + kSlack));
        std::memset(image, 0, static_cast<std::size_t>(2 * (pixels + kSlack)) * sizeof(float));
        cpu::simd().conv_relu_pool_backward_image(shape, runs.const_data_ptr<float>(), winner + i * outputs,
                                                  grad_out + i * outputs, image, image + pixels + kSlack);
        std::memcpy(grad_input.mutable_data_ptr<float>() + i * pixels, image, static_cast<std::size_t>(pixels) * sizeof(float));
      });
    }
    return {grad_input, grad_weight, total.narrow(0, run_floats, shape.filters).clone()};
  }
};

}  // namespace

Tensor conv_relu_pool(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  RECORD_FUNCTION("oumi::conv_relu_pool", std::vector<c10::IValue>({x, weight}));
  expect(x.dim() == 4 && weight.dim() == 4 && x.size(1) == weight.size(1) && weight.size(2) == weight.size(3) &&
             x.size(2) > weight.size(2) && x.size(3) > weight.size(3) && bias.dim() == 1 && bias.size(0) == weight.size(0),
         "conv_relu_pool",
         "x [batch, channels, height > size, width > size], weight [filters, channels, size, size] and bias [filters]",
         x.sizes(), ", ", weight.sizes(), ", ", bias.sizes());
  const auto fits = [](const Tensor& tensor) { return cpu::has_loops(tensor) && tensor.scalar_type() == at::kFloat; };
  const bool fused = fits(x) && fits(weight) && fits(bias) && x.size(0) > 0 && x.numel() / x.size(0) <= kMostImageFloats;
  return fused ? ConvReluPool::apply(x, weight, bias) : composed::conv_relu_pool(x, weight, bias);
}

}  // namespace oumi::kernels
