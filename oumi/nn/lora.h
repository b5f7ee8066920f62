// Low-rank adapters on linear layers: y = base(x) + scaling * B(A(dropout(x))), Hu et al. 2021, arXiv:2106.09685, with PEFT's
// parameter names (lora_A.weight, lora_B.weight below the layer's name) and arithmetic.
//
// On a layer that is spread over a tensor-parallel group one factor is spread as the layer is (B's rows with its output
// channels, A's columns with its input channels), and every rank has the other one whole.
#pragma once

#include <memory>

#include "oumi/distributed/tensor_parallel.h"
#include "oumi/nn/layers.h"

namespace oumi::nn {

enum class LoraInit {
  kDefault,   // A ~ Kaiming uniform as a linear layer's weight, B zero: the layer starts as it was
  kGaussian,  // A ~ N(0, 1 / rank^2), B zero
  kRandom,    // A and B as linear layers' weights: the layer does not start as it was
};

struct LoraOptions {
  std::int64_t rank = 8;
  double scaling = 1.0;  // alpha / rank, or alpha / sqrt(rank) (rsLoRA)
  double dropout = 0.0;  // on the adapter's input, in training mode
  LoraInit init = LoraInit::kDefault;
};

class LoraAdapter final : public LinearAdapter {
 public:
  // `base` computes the frozen part where the layer had an adapter before (a quantised weight); nullptr: the layer's weight.
  // `parallel`: what the layer is spread over; nullptr for a whole one.
  LoraAdapter(Linear lora_A, Linear lora_B, const LoraOptions& options, std::shared_ptr<LinearAdapter> base,
              TensorParallelPtr parallel = nullptr);

  // The low-rank product is computed in the dtype of lora_A (float32 over half-precision weights, as PEFT) unless autocast
  // decides; the result has the base's.
  Tensor forward(const Tensor& input, const Tensor& weight, const Tensor& bias) override;
  Tensor dense_weight() const override { return base_ ? base_->dense_weight() : Tensor(); }
  std::optional<kernels::LowRankFactors> update() const override;

  // scaling * B A in float32: [out_features, in_features], as much of it as the layer has.
  Tensor delta() const;

  const Linear& lora_A() const noexcept { return lora_A_; }  // [rank, in_features]
  const Linear& lora_B() const noexcept { return lora_B_; }  // [out_features, rank]
  const LoraOptions& options() const noexcept { return options_; }
  const std::shared_ptr<LinearAdapter>& base() const noexcept { return base_; }

 private:
  Tensor factor(const Linear& layer) const;
  kernels::LowRankFactors factors() const;
  bool drops() const { return options_.dropout > 0 && lora_A_->is_training(); }

  Linear lora_A_, lora_B_;
  LoraOptions options_;
  std::shared_ptr<LinearAdapter> base_;
  TensorParallelPtr parallel_;
};

// Puts an adapter on `layer` and registers lora_A and lora_B as its children; the weight itself is left as it is. Draws random
// numbers in PEFT's order, so one seed gives one adapter, however many ranks the layer is spread over. Parameters are float32
// for half-precision layers.
std::shared_ptr<LoraAdapter> add_lora(LinearImpl& layer, const LoraOptions& options);

// The layer's LoRA adapter; nullptr when it has none.
LoraAdapter* lora_of(const LinearImpl& layer);

// Takes the adapter off: the layer is its base again.
void remove_lora(LinearImpl& layer);

// Adds delta() to the weight, in the weight's dtype, and takes the adapter off. A quantised weight becomes a dense one of
// float32 first.
void merge_lora(LinearImpl& layer);

}  // namespace oumi::nn
