#include "oumi/nn/layers.h"

#include <ATen/ops/conv2d.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <torch/nn/init.h>
#include <torch/types.h>

#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/distributed/tensor_parallel.h"
#include "oumi/kernels/conv_relu_pool.h"
#include "oumi/kernels/linear.h"
#include "oumi/kernels/linears_with_updates.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi::nn {
namespace {

[[noreturn]] void throw_shape(const std::string& expected, const Tensor& got) {
  throw UserError(call_path::current_path(), cat("expected ", expected, ", got ", got.sizes()),
                  "compare the batch's shapes with what the model was built for");
}

// The initialisation that PyTorch's Linear and Conv share.
void kaiming_uniform(Tensor& weight, Tensor& bias) {
  torch::nn::init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (!bias.defined()) return;
  const std::int64_t fan_in = weight.numel() / std::max<std::int64_t>(weight.size(0), 1);
  const double bound = fan_in > 0 ? 1.0 / std::sqrt(static_cast<double>(fan_in)) : 0.0;
  torch::nn::init::uniform_(bias, -bound, bound);
}

}  // namespace

LinearImpl::LinearImpl(std::int64_t in_features, std::int64_t out_features, bool with_bias)
    : in_features_(in_features), out_features_(out_features) {
  weight = register_parameter("weight", empty_parameter({out_features, in_features}));
  bias = with_bias ? register_parameter("bias", empty_parameter({out_features})) : Tensor();
  if (ParameterScope::current().initialize) reset_parameters();
}

void LinearImpl::reset_parameters() { kaiming_uniform(weight, bias); }

void LinearImpl::share_weight(const Tensor& shared) {
  if (parameters_.contains("weight")) parameters_.erase("weight");
  weight = shared;
}

std::optional<kernels::LowRankFactors> LinearAdapter::update() const { return std::nullopt; }

Tensor LinearImpl::forward(const Tensor& input) {
  if (input.dim() == 0 || input.size(-1) != in_features_) throw_shape(cat("[*, ", in_features_, "]"), input);
  return adapter ? adapter->forward(input, weight, bias) : kernels::linear(input, weight, bias);
}

Tensor LinearImpl::release_weight() {
  Tensor released = std::move(weight);
  weight = Tensor();
  parameters_.erase("weight");
  return released;
}

void LinearImpl::set_weight(Tensor value) {
  const bool trained = value.requires_grad();
  // In the order of construction, which state dicts and gradient norms follow: weight, then bias.
  if (parameters_.contains("weight")) parameters_.erase("weight");
  if (bias.defined()) parameters_.erase("bias");
  weight = register_parameter("weight", std::move(value), trained);
  if (bias.defined()) bias = register_parameter("bias", bias, bias.requires_grad());
}

Conv2dImpl::Conv2dImpl(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel_size, Conv2dOptions options)
    : in_channels_(in_channels), options_(options) {
  weight = register_parameter("weight", torch::empty({out_channels, in_channels / options.groups, kernel_size, kernel_size}));
  bias = options.bias ? register_parameter("bias", torch::empty({out_channels})) : Tensor();
  reset_parameters();
}

void Conv2dImpl::reset_parameters() { kaiming_uniform(weight, bias); }

void Conv2dImpl::check(const Tensor& input) const {
  const std::int64_t padded = 2 * options_.padding, reach = options_.dilation * (weight.size(2) - 1);
  if (input.dim() != 4 || input.size(1) != in_channels_ || input.size(2) + padded <= reach || input.size(3) + padded <= reach) {
    throw_shape(cat("[batch, ", in_channels_, ", height > ", reach - padded, ", width > ", reach - padded, "]"), input);
  }
}

Tensor Conv2dImpl::forward(const Tensor& input) {
  check(input);
  return at::conv2d(input, weight, bias, options_.stride, options_.padding, options_.dilation, options_.groups);
}

Tensor Conv2dImpl::relu_pool(const Tensor& input) {
  const auto fused = [this](const Tensor& images) {
    check(images);
    if (options_.stride != 1 || options_.padding != 0 || options_.dilation != 1 || options_.groups != 1 || !bias.defined()) {
      throw UserError(call_path::current_path(),
                      "relu_pool: expected stride, dilation and groups 1, padding 0 and a bias, got another convolution");
    }
    return kernels::conv_relu_pool(images, weight, bias);
  };
  return call_path::call(*this, fused, input);
}

EmbeddingImpl::EmbeddingImpl(std::int64_t num_embeddings, std::int64_t embedding_dim) : num_embeddings_(num_embeddings) {
  weight = register_parameter("weight", empty_parameter({num_embeddings, embedding_dim}));
  if (ParameterScope::current().initialize) torch::nn::init::normal_(weight);
}

void EmbeddingImpl::check_ids(const Tensor& ids, std::int64_t num_embeddings) {
  if (!at::isIntegralType(ids.scalar_type(), /*includeBool=*/false)) {
    throw UserError(call_path::current_path(), cat("expected integer ids, got ", ids.scalar_type()));
  }
  // One pass over the ids is free beside the rest of a model, and without it a bad id reads outside the table.
  if (ids.device().is_cpu() && ids.numel() > 0) {
    const std::int64_t lowest = ids.min().item<std::int64_t>(), highest = ids.max().item<std::int64_t>();
    if (lowest < 0 || highest >= num_embeddings) {
      throw UserError(call_path::current_path(),
                      cat("expected ids in [0, ", num_embeddings, "), got ", lowest < 0 ? lowest : highest),
                      "the tokenizer or data does not belong to a model of this vocabulary size");
    }
  }
}

Tensor EmbeddingImpl::forward(const Tensor& ids) {
  check_ids(ids, num_embeddings_);
  const Tensor rows = at::embedding(weight, ids, padding_idx);
  return scale == 1 ? rows : rows * at::full({}, scale, rows.options());
}

LayerNormImpl::LayerNormImpl(std::int64_t normalized_size, double eps) : normalized_size_(normalized_size), eps_(eps) {
  weight = register_parameter("weight", empty_parameter({normalized_size}).fill_(1));
  bias = register_parameter("bias", empty_parameter({normalized_size}).zero_());
  const auto& parallel = ParameterScope::current().tensor_parallel;
  if (parallel && parallel->sequence_parallel()) sequence_shards_ = parallel;
}

Tensor LayerNormImpl::forward(const Tensor& input) {
  if (input.dim() == 0 || input.size(-1) != normalized_size_) throw_shape(cat("[*, ", normalized_size_, "]"), input);
  if (!sequence_shards_) return at::layer_norm(input, {normalized_size_}, weight, bias, eps_);
  return at::layer_norm(input, {normalized_size_}, sequence_shards_->sum_gradient(weight), sequence_shards_->sum_gradient(bias),
                        eps_);
}

std::function<Tensor()> LayerNormImpl::again(const Tensor& input) const {
  return [input = input.detach(), weight = weight.detach().clone(), bias = bias.detach().clone(), eps = eps_] {
    return at::layer_norm(input, weight.sizes(), weight, bias, eps);
  };
}

DropoutImpl::DropoutImpl(double p) : p_(p), parallel_(ParameterScope::current().tensor_parallel) {
  if (!(p >= 0 && p <= 1)) throw UserError("dropout", cat("expected a probability in [0, 1], got ", p));
}

Tensor DropoutImpl::forward(const Tensor& input) {
  return parallel_ ? parallel_->dropout_outside(input, p_, is_training()) : at::dropout(input, p_, is_training());
}

}  // namespace oumi::nn
