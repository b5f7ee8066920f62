#include "oumi/nn/lora.h"

#include <ATen/ops/matmul.h>
#include <c10/core/GradMode.h>
#include <torch/nn/init.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/kernels/linears_with_updates.h"
#include "oumi/nn/parallel_layers.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi::nn {

namespace {

// A factor as this rank has it: `spread`, filled with its part of `whole`.
Linear part_of(const Linear& whole, const std::shared_ptr<LinearImpl>& spread) {
  const auto& layer = dynamic_cast<const SplitLayer&>(*spread);
  const c10::AutoGradMode no_grad(false);
  spread->weight.copy_(layer.split_of("weight")->slice(whole->weight, layer.parallel().rank(), layer.parallel().size()));
  return Linear(spread);
}

}  // namespace

LoraAdapter::LoraAdapter(Linear lora_A, Linear lora_B, const LoraOptions& options, std::shared_ptr<LinearAdapter> base,
                         TensorParallelPtr parallel)
    : lora_A_(std::move(lora_A)),
      lora_B_(std::move(lora_B)),
      options_(options),
      base_(std::move(base)),
      parallel_(std::move(parallel)) {}

// Each rank uses a whole factor with its own part of the other, so the gradient is what all of them have.
Tensor LoraAdapter::factor(const Linear& layer) const {
  const bool whole = dynamic_cast<const SplitLayer*>(layer.get()) == nullptr;
  return parallel_ && whole ? parallel_->sum_gradient(layer->weight) : layer->weight;
}

Tensor LoraAdapter::forward(const Tensor& input, const Tensor& weight, const Tensor& bias) {
  Tensor adapted = input;
  if (drops()) {
    const bool spread_input = dynamic_cast<const SplitLayer*>(lora_A_.get()) != nullptr;
    adapted = dropout_inside(spread_input ? parallel_ : nullptr, adapted.to(lora_A_->weight.scalar_type()), options_.dropout,
                             /*train=*/true);
  }
  if (!base_) return kernels::linears_with_updates(input, adapted, weight, bias, factors())[0];
  const auto [a, b, scaling] = factors();
  return kernels::low_rank_update(base_->forward(input, weight, bias), adapted, a, b, scaling);
}

kernels::LowRankFactors LoraAdapter::factors() const { return {factor(lora_A_), factor(lora_B_), options_.scaling}; }

std::optional<kernels::LowRankFactors> LoraAdapter::update() const {
  if (base_ || drops()) return std::nullopt;
  return factors();
}

Tensor LoraAdapter::delta() const {
  const c10::AutoGradMode no_grad(false);
  return at::matmul(lora_B_->weight.to(at::kFloat), lora_A_->weight.to(at::kFloat)) * options_.scaling;
}

std::shared_ptr<LoraAdapter> add_lora(LinearImpl& layer, const LoraOptions& options) {
  if (lora_of(layer) != nullptr) throw InternalError("a linear layer got a second LoRA adapter");
  if (options.rank < 1) throw UserError("peft.lora_r", cat("expected a rank of at least 1, got ", options.rank));
  const auto* spread = dynamic_cast<const SplitLayer*>(&layer);
  const TensorSplit* split = spread == nullptr ? nullptr : spread->split_of("weight");
  const bool by_rows = split != nullptr && split->dim == 0, by_columns = split != nullptr && split->dim == 1;
  Linear lora_A(by_columns ? split->whole_size() : layer.in_features(), options.rank, false);
  Linear lora_B(options.rank, by_rows ? split->whole_size() : layer.out_features(), false);
  {
    const c10::AutoGradMode no_grad(false);
    if (options.init == LoraInit::kDefault) lora_A->reset_parameters();
    if (options.init == LoraInit::kGaussian)
      torch::nn::init::normal_(lora_A->weight, 0.0, 1.0 / static_cast<double>(options.rank));
    if (options.init != LoraInit::kRandom) lora_B->weight.zero_();
  }
  TensorParallelPtr parallel;
  if (split != nullptr) {
    parallel = spread->parallel().shared_from_this();
    const ParameterScope scope({.initialize = false});
    if (by_rows)
      lora_B = part_of(lora_B, std::make_shared<ColumnParallelLinearImpl>(options.rank, split->pieces, false, parallel));
    if (by_columns)
      lora_A = part_of(lora_A, std::make_shared<RowParallelLinearImpl>(split->whole_size(), options.rank, false, parallel));
  }
  const Tensor& like = layer.weight.defined() ? layer.weight : layer.bias;
  if (like.defined()) {
    const auto dtype = like.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    lora_A->to(like.device(), dtype);
    lora_B->to(like.device(), dtype);
  }
  auto adapter = std::make_shared<LoraAdapter>(lora_A, lora_B, options, layer.adapter, parallel);
  layer.register_module("lora_A", lora_A);
  layer.register_module("lora_B", lora_B);
  layer.adapter = adapter;
  return adapter;
}

LoraAdapter* lora_of(const LinearImpl& layer) { return dynamic_cast<LoraAdapter*>(layer.adapter.get()); }

void remove_lora(LinearImpl& layer) {
  const LoraAdapter* adapter = lora_of(layer);
  if (adapter == nullptr) return;
  layer.unregister_module("lora_A");
  layer.unregister_module("lora_B");
  layer.adapter = std::shared_ptr<LinearAdapter>(adapter->base());  // last: it ends the adapter
}

void merge_lora(LinearImpl& layer) {
  const LoraAdapter* adapter = lora_of(layer);
  if (adapter == nullptr) return;
  const c10::AutoGradMode no_grad(false);
  const Tensor delta = adapter->delta();
  Tensor dense = adapter->dense_weight();
  remove_lora(layer);
  if (dense.defined()) {
    layer.adapter = nullptr;
    layer.set_weight(dense.to(at::kFloat).add_(delta));
  } else {
    layer.weight.add_(delta.to(layer.weight.scalar_type()));
  }
}

}  // namespace oumi::nn
