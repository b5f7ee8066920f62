#include "oumi/nn/parallel_layers.h"

#include <ATen/ops/dropout.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rsqrt.h>
#include <c10/core/GradMode.h>
#include <torch/types.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <typeinfo>
#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/kernels/linear.h"
#include "oumi/kernels/linears_with_updates.h"
#include "oumi/nn/parameter_scope.h"

namespace oumi::nn {
namespace {

const TensorParallelPtr& current_parallel() { return ParameterScope::current().tensor_parallel; }

std::int64_t local_rows(const std::vector<std::int64_t>& pieces, const TensorParallel& parallel) {
  return TensorSplit{.pieces = pieces}.local_size(parallel.rank(), parallel.size());
}

// Fewer rows than ranks would leave a rank without any.
std::int64_t vocabulary_rows(std::int64_t vocabulary, const TensorParallel& parallel) {
  if (TensorSplit::range(vocabulary, parallel.size() - 1, parallel.size()).second > 0)
    return local_rows({vocabulary}, parallel);
  throw UserError("parallel.tensor_model_parallel_size", cat("expected a vocabulary that every rank has a part of, got ",
                                                             vocabulary, " ids for ", parallel.size(), " ranks"));
}

std::map<std::string, TensorSplit> column_splits(const std::vector<std::int64_t>& pieces) {
  return {{"weight", {.dim = 0, .pieces = pieces}}, {"bias", {.dim = 0, .pieces = pieces}}};
}

}  // namespace

const TensorSplit* SplitLayer::split_of(const std::string& parameter) const {
  const auto found = splits_.find(parameter);
  return found == splits_.end() ? nullptr : &found->second;
}

ColumnParallelLinearImpl::ColumnParallelLinearImpl(std::int64_t in_features, const std::vector<std::int64_t>& pieces,
                                                   bool with_bias, const TensorParallelPtr& parallel)
    : LinearImpl(in_features, local_rows(pieces, *parallel), with_bias), SplitLayer(parallel, column_splits(pieces)) {}

RowParallelLinearImpl::RowParallelLinearImpl(std::int64_t in_features, std::int64_t out_features, bool with_bias,
                                             const TensorParallelPtr& parallel)
    : LinearImpl(parallel->share_of(in_features, "input channels"), out_features, with_bias),
      SplitLayer(parallel, {{"weight", {.dim = 1, .pieces = {in_features}}}}) {}

Tensor RowParallelLinearImpl::forward(const Tensor& input) {
  const Tensor result =
      parallel().leave(adapter ? adapter->forward(input, weight, Tensor()) : kernels::linear(input, weight, std::nullopt));
  if (!bias.defined()) return result;
  const Tensor added = parallel().sequence_parallel() ? parallel().sum_gradient(bias) : bias;
  return result + added.to(result.scalar_type());
}

VocabParallelEmbeddingImpl::VocabParallelEmbeddingImpl(std::int64_t num_embeddings, std::int64_t embedding_dim,
                                                       const TensorParallelPtr& parallel)
    : EmbeddingImpl(vocabulary_rows(num_embeddings, *parallel), embedding_dim),
      SplitLayer(parallel, {{"weight", {.dim = 0, .pieces = {num_embeddings}}}}),
      vocabulary_(num_embeddings),
      first_(TensorSplit::range(num_embeddings, parallel->rank(), parallel->size()).first) {}

Tensor VocabParallelEmbeddingImpl::forward(const Tensor& ids) {
  check_ids(ids, vocabulary_);
  const std::int64_t rows = weight.size(0);
  const Tensor local = ids - first_;
  const Tensor elsewhere = local.lt(0).logical_or(local.ge(rows));
  const std::int64_t padding = padding_idx >= first_ && padding_idx < first_ + rows ? padding_idx - first_ : -1;
  const Tensor own = at::embedding(weight, local.masked_fill(elsewhere, 0), padding).masked_fill(elsewhere.unsqueeze(-1), 0);
  const Tensor embedded = parallel().leave(own);
  return scale == 1 ? embedded : embedded * at::full({}, scale, embedded.options());
}

ParallelRmsNormImpl::ParallelRmsNormImpl(std::int64_t size, RmsNormOptions options, const TensorParallelPtr& parallel)
    : RmsNormImpl(parallel->share_of(size, "normalised channels"), options),
      SplitLayer(parallel, {{"weight", {.dim = 0, .pieces = {size}}}}) {}

Tensor ParallelRmsNormImpl::forward(const Tensor& input) {
  const Tensor wide = input.to(input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const Tensor squares = parallel().sum(wide.square().sum(-1, /*keepdim=*/true));
  const Tensor normed = wide * at::rsqrt(squares / static_cast<double>(input.size(-1) * parallel().size()) + options_.eps);
  if (options_.unit_offset) return (normed * (weight.to(wide.scalar_type()) + 1.0)).to(input.scalar_type());
  return weight * normed.to(input.scalar_type());
}

Linear column_parallel_linear(std::int64_t in_features, const std::vector<std::int64_t>& pieces, bool with_bias) {
  if (!current_parallel())
    return Linear(in_features, std::accumulate(pieces.begin(), pieces.end(), std::int64_t{0}), with_bias);
  return Linear(std::shared_ptr<LinearImpl>(
      std::make_shared<ColumnParallelLinearImpl>(in_features, pieces, with_bias, current_parallel())));
}

Linear row_parallel_linear(std::int64_t in_features, std::int64_t out_features, bool with_bias) {
  if (!current_parallel()) return Linear(in_features, out_features, with_bias);
  return Linear(std::shared_ptr<LinearImpl>(
      std::make_shared<RowParallelLinearImpl>(in_features, out_features, with_bias, current_parallel())));
}

std::vector<Tensor> outputs_of(const Tensor& input, at::ArrayRef<Linear> layers) {
  const auto is_plain = [&](const Linear& layer) {
    const LinearImpl& impl = *layer;
    return impl.call_hooks().empty() && !impl.call_wrapper() && input.dim() > 0 && input.size(-1) == impl.in_features() &&
           (typeid(impl) == typeid(LinearImpl) || typeid(impl) == typeid(ColumnParallelLinearImpl));
  };
  if (std::all_of(layers.begin(), layers.end(), is_plain)) {
    std::vector<Tensor> weights, biases;
    std::vector<kernels::LowRankFactors> updates;
    std::size_t adapters = 0;
    for (const Linear& layer : layers) {
      weights.push_back(layer->weight);
      biases.push_back(layer->bias);
      if (!layer->adapter) continue;
      ++adapters;
      if (auto update = layer->adapter->update()) updates.push_back(*std::move(update));
    }
    if (adapters == 0) return kernels::linears(input, weights, biases);
    if (updates.size() == layers.size()) return kernels::linears_with_updates(input, input, weights, biases, updates);
  }
  std::vector<Tensor> outputs;
  for (Linear layer : layers) outputs.push_back(layer(input));
  return outputs;
}

Embedding vocab_parallel_embedding(std::int64_t num_embeddings, std::int64_t embedding_dim) {
  if (!current_parallel()) return Embedding(num_embeddings, embedding_dim);
  return Embedding(std::shared_ptr<EmbeddingImpl>(
      std::make_shared<VocabParallelEmbeddingImpl>(num_embeddings, embedding_dim, current_parallel())));
}

RmsNorm parallel_rms_norm(std::int64_t size, RmsNormOptions options) {
  if (!current_parallel()) return RmsNorm(size, options);
  return RmsNorm(std::shared_ptr<RmsNormImpl>(std::make_shared<ParallelRmsNormImpl>(size, options, current_parallel())));
}

Tensor dropout_inside(const TensorParallelPtr& parallel, const Tensor& input, double p, bool train) {
  return parallel ? parallel->dropout_inside(input, p, train) : at::dropout(input, p, train);
}

Tensor dropout_outside(const TensorParallelPtr& parallel, const Tensor& input, double p, bool train) {
  return parallel ? parallel->dropout_outside(input, p, train) : at::dropout(input, p, train);
}

namespace {
struct InitialValuesTaker {
  c10::ScalarType dtype;
  InitialValues::Take take;
};
thread_local std::optional<InitialValuesTaker> taker_now;
}  // namespace

InitialValues::InitialValues(c10::ScalarType dtype, Take take) { taker_now = {dtype, std::move(take)}; }
InitialValues::~InitialValues() { taker_now.reset(); }

void initialize_whole(torch::nn::Module& layer, const std::string& name, Tensor& parameter,
                      const std::function<void(Tensor&)>& draw) {
  const c10::AutoGradMode no_grad(false);
  const auto* split_layer = dynamic_cast<const SplitLayer*>(&layer);
  const TensorSplit* split = split_layer == nullptr ? nullptr : split_layer->split_of(name);
  if (split == nullptr && !taker_now) return draw(parameter);
  const auto options = parameter.options().requires_grad(false);
  Tensor whole = at::empty(split == nullptr ? parameter.sizes().vec() : split->whole_shape(parameter.sizes()),
                           taker_now ? options.dtype(taker_now->dtype) : options);
  draw(whole);
  if (split != nullptr) whole = split->slice(whole, split_layer->parallel().rank(), split_layer->parallel().size());
  if (taker_now) {
    taker_now->take(parameter, whole);
  } else {
    parameter.copy_(whole);
  }
}

}  // namespace oumi::nn
