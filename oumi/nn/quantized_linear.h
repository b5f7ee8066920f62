// A frozen linear weight held in 4 bits (QLoRA): dequantised block by block of rows into one scratch for each product, forward
// and backward, and never kept dense.
#pragma once

#include <optional>

#include "oumi/kernels/blockwise.h"
#include "oumi/nn/layers.h"

namespace oumi::nn {

struct QuantizeOptions {
  kernels::FourBitType type = kernels::FourBitType::kNf4;
  bool nested = false;                        // double quantisation: the scales become 8-bit, in blocks of 256
  at::ScalarType compute_dtype = at::kFloat;  // of the product: float32 or bfloat16
};

// A weight as bitsandbytes stores it.
class QuantizedWeight {
 public:
  // `weight`: floating point. Its dtype is that of dense().
  QuantizedWeight(const Tensor& weight, const QuantizeOptions& options);

  // Rows [begin, begin + out.size(0)) into `out`, contiguous; `absmax` is absmax().
  void rows_into(Tensor& out, std::int64_t begin, const Tensor& absmax) const;
  Tensor dense() const;
  // The scales, whether they are nested or not: float32 [blocks].
  Tensor absmax() const;

  const Tensor& codes() const noexcept { return codes_; }
  c10::IntArrayRef sizes() const noexcept { return sizes_; }
  std::size_t bytes() const;

 private:
  Tensor codes_, absmax_;                          // absmax_ undefined when nested
  std::optional<kernels::EightBitBlocks> nested_;  // of absmax - offset_
  float offset_ = 0;
  kernels::FourBitType type_;
  std::vector<std::int64_t> sizes_;
  at::ScalarType dtype_;
};

// y = x W^T + b with a quantised W. The product is computed in compute_dtype (autocast's while that is on), the result has the
// input's dtype. Gradients flow to the input and the bias.
class QuantizedLinear final : public LinearAdapter {
 public:
  QuantizedLinear(const Tensor& weight, const QuantizeOptions& options);
  Tensor forward(const Tensor& input, const Tensor& weight, const Tensor& bias) override;
  Tensor dense_weight() const override { return weight_->dense(); }
  const QuantizedWeight& quantized() const noexcept { return *weight_; }

 private:
  std::shared_ptr<const QuantizedWeight> weight_;
  at::ScalarType compute_dtype_;
};

// Takes the layer's weight out of the module and holds it quantised. The layer must have no adapter.
void quantize(LinearImpl& layer, const QuantizeOptions& options);

// The quantised weight of `layer`, below a LoRA adapter too; nullptr when it is dense.
const QuantizedWeight* quantized_weight(const LinearImpl& layer);

}  // namespace oumi::nn
