#include "oumi/nn/quantized_linear.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/nn/lora.h"

namespace oumi::nn {
namespace {

// Elements of the scratch that rows are dequantised into: it stays in cache between being written and being multiplied.
constexpr std::int64_t kScratch = 1 << 20;

Tensor& scratch(at::ScalarType dtype, std::int64_t size) {
  thread_local Tensor wide, narrow;
  Tensor& buffer = dtype == at::kFloat ? wide : narrow;
  if (!buffer.defined() || buffer.numel() < size) buffer = at::empty({size}, dtype);
  return buffer;
}

// Calls `use(begin, rows)` for blocks of dense rows in order.
template <class Use>
void for_row_blocks(const QuantizedWeight& weight, at::ScalarType dtype, Use use) {
  const std::int64_t rows = weight.sizes()[0], columns = weight.sizes()[1];
  const Tensor absmax = weight.absmax();
  // A block begins on a whole number of quantisation blocks.
  std::int64_t step = std::max<std::int64_t>(1, kScratch / std::max<std::int64_t>(columns, 1));
  if (columns % kernels::kFourBitBlock != 0)
    step = std::max(kernels::kFourBitBlock, step / kernels::kFourBitBlock * kernels::kFourBitBlock);
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t count = std::min(step, rows - begin);
    Tensor block = scratch(dtype, count * columns).narrow(0, 0, count * columns).view({count, columns});
    weight.rows_into(block, begin, absmax);
    use(begin, block);
  }
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct WeightHolder : torch::CustomClassHolder {
  explicit WeightHolder(std::shared_ptr<const QuantizedWeight> held) : weight(std::move(held)) {}
  std::shared_ptr<const QuantizedWeight> weight;
};

// x [N, in] W^T -> [N, out], both of one dtype.
struct QuantizedProduct : torch::autograd::Function<QuantizedProduct> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const c10::intrusive_ptr<WeightHolder>& holder) {
    context->saved_data["weight"] = at::IValue::make_capsule(holder);
    Tensor output = at::empty({input.size(0), holder->weight->sizes()[0]}, input.options());
    for_row_blocks(*holder->weight, input.scalar_type(), [&](std::int64_t begin, const Tensor& rows) {
      output.narrow(1, begin, rows.size(0)).copy_(at::mm(input, rows.t()));
    });
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto holder = c10::static_intrusive_pointer_cast<WeightHolder>(context->saved_data.at("weight").toCapsule());
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const Tensor& output_gradient = gradients[0];
    Tensor gradient = at::zeros({output_gradient.size(0), holder->weight->sizes()[1]}, output_gradient.options());
    for_row_blocks(*holder->weight, output_gradient.scalar_type(), [&](std::int64_t begin, const Tensor& rows) {
      gradient.addmm_(output_gradient.narrow(1, begin, rows.size(0)), rows);
    });
    return {gradient, Tensor()};
  }
};

}  // namespace

QuantizedWeight::QuantizedWeight(const Tensor& weight, const QuantizeOptions& options)
    : type_(options.type), sizes_(weight.sizes().vec()), dtype_(weight.scalar_type()) {
  if (weight.dim() != 2) throw InternalError(cat("a quantised weight has two dimensions, got ", weight.sizes()));
  kernels::FourBitBlocks blocks = kernels::quantize_4bit(weight, options.type);
  codes_ = blocks.codes;
  if (options.nested) {
    offset_ = blocks.absmax.mean().item<float>();
    nested_ = kernels::quantize_8bit(blocks.absmax - offset_, kernels::dynamic_map(kernels::DynamicMap::kSigned));
  } else {
    absmax_ = blocks.absmax;
  }
}

Tensor QuantizedWeight::absmax() const {
  if (!nested_) return absmax_;
  return kernels::dequantize_8bit(*nested_, kernels::dynamic_map(kernels::DynamicMap::kSigned)) + offset_;
}

void QuantizedWeight::rows_into(Tensor& out, std::int64_t begin, const Tensor& absmax) const {
  kernels::dequantize_4bit_into(out, {codes_, absmax}, type_, begin * sizes_[1]);
}

Tensor QuantizedWeight::dense() const {
  Tensor out = at::empty(sizes_, dtype_ == at::kBFloat16 ? at::kBFloat16 : at::kFloat);
  rows_into(out, 0, absmax());
  return out.to(dtype_);
}

std::size_t QuantizedWeight::bytes() const {
  return codes_.nbytes() + (nested_ ? nested_->codes.nbytes() + nested_->absmax.nbytes() + sizeof(float) : absmax_.nbytes());
}

QuantizedLinear::QuantizedLinear(const Tensor& weight, const QuantizeOptions& options)
    : weight_(std::make_shared<const QuantizedWeight>(weight, options)), compute_dtype_(options.compute_dtype) {}

Tensor QuantizedLinear::forward(const Tensor& input, const Tensor& weight, const Tensor& bias) {
  (void)weight;
  const at::ScalarType dtype =
      at::autocast::is_autocast_enabled(at::kCPU) ? at::autocast::get_autocast_dtype(at::kCPU) : compute_dtype_;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  std::vector<std::int64_t> sizes = input.sizes().vec();
  const Tensor rows = input.to(dtype).reshape({-1, sizes.back()});
  sizes.back() = weight_->sizes()[0];
  Tensor output = QuantizedProduct::apply(rows, c10::make_intrusive<WeightHolder>(weight_)).view(sizes);
  if (bias.defined()) output = output + bias.to(dtype);
  return output.to(input.scalar_type());
}

void quantize(LinearImpl& layer, const QuantizeOptions& options) {
  if (layer.adapter) throw InternalError("a linear layer with an adapter can't be quantised");
  if (options.compute_dtype != at::kFloat && options.compute_dtype != at::kBFloat16) {
    throw UserError("peft.bnb_4bit_compute_dtype", cat("expected float32 or bfloat16, got ", options.compute_dtype));
  }
  layer.adapter = std::make_shared<QuantizedLinear>(layer.weight, options);
  layer.release_weight();
}

const QuantizedWeight* quantized_weight(const LinearImpl& layer) {
  const LinearAdapter* adapter = layer.adapter.get();
  if (const LoraAdapter* lora = lora_of(layer)) adapter = lora->base().get();
  const auto* quantized = dynamic_cast<const QuantizedLinear*>(adapter);
  return quantized == nullptr ? nullptr : &quantized->quantized();
}

}  // namespace oumi::nn
