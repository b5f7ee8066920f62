// Layers whose parameters are spread over a tensor-parallel group (distributed/tensor_parallel.h), by Megatron's names. The
// functions below make them where the ParameterScope has such a group, and the plain layers where it has none.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "oumi/distributed/tensor_parallel.h"
#include "oumi/nn/layers.h"
#include "oumi/nn/rms_norm.h"

namespace oumi::nn {

// What such layers tell of themselves.
class SplitLayer {
 public:
  SplitLayer(TensorParallelPtr parallel, std::map<std::string, TensorSplit> splits)
      : parallel_(std::move(parallel)), splits_(std::move(splits)) {}
  virtual ~SplitLayer() = default;

  const TensorParallel& parallel() const noexcept { return *parallel_; }
  // By the parameter's name in the layer; nullptr for one that every rank has whole.
  const TensorSplit* split_of(const std::string& parameter) const;

 private:
  TensorParallelPtr parallel_;
  std::map<std::string, TensorSplit> splits_;
};

// Weight [out / ranks, in]: this rank's output channels of an input that has come through TensorParallel::enter.
class ColumnParallelLinearImpl : public LinearImpl, public SplitLayer {
 public:
  ColumnParallelLinearImpl(std::int64_t in_features, const std::vector<std::int64_t>& pieces, bool with_bias,
                           const TensorParallelPtr& parallel);
};

// Weight [out, in / ranks]: the sum over ranks of what each has from its input channels, in the form that activations have
// outside of parallel parts. The bias is added once.
class RowParallelLinearImpl : public LinearImpl, public SplitLayer {
 public:
  RowParallelLinearImpl(std::int64_t in_features, std::int64_t out_features, bool with_bias, const TensorParallelPtr& parallel);
  Tensor forward(const Tensor& input) override;
};

// Weight [vocabulary / ranks, width]. Integer ids [batch, tokens] -> embeddings in the form that activations have outside of
// parallel parts.
class VocabParallelEmbeddingImpl : public EmbeddingImpl, public SplitLayer {
 public:
  VocabParallelEmbeddingImpl(std::int64_t num_embeddings, std::int64_t embedding_dim, const TensorParallelPtr& parallel);
  Tensor forward(const Tensor& ids) override;

 private:
  std::int64_t vocabulary_, first_;
};

// Root-mean-square normalisation over the channels of all ranks, each of which has its share of them (OLMo 2's norms of q, k).
class ParallelRmsNormImpl : public RmsNormImpl, public SplitLayer {
 public:
  ParallelRmsNormImpl(std::int64_t size, RmsNormOptions options, const TensorParallelPtr& parallel);
  Tensor forward(const Tensor& input) override;
};

// `pieces`: the sizes of what lies one after another in the output: {out_features}, or {q, k, v} of a fused projection.
Linear column_parallel_linear(std::int64_t in_features, const std::vector<std::int64_t>& pieces, bool with_bias);
Linear row_parallel_linear(std::int64_t in_features, std::int64_t out_features, bool with_bias);
// The outputs of such column-parallel (or plain) layers for one input [*, in_features], by one operation: kernels::linears or,
// with LoRA on all of them, kernels::linears_with_updates. One by one where one has another adapter or a hook, or is of another
// class.
std::vector<Tensor> outputs_of(const Tensor& input, at::ArrayRef<Linear> layers);
Embedding vocab_parallel_embedding(std::int64_t num_embeddings, std::int64_t embedding_dim);
RmsNorm parallel_rms_norm(std::int64_t size, RmsNormOptions options);

// --- for layers that may stand in such a group; `parallel` is null without one ---

inline Tensor enter(const TensorParallelPtr& parallel, const Tensor& hidden) {
  return parallel ? parallel->enter(hidden) : hidden;
}
// This rank's share of `count`.
inline std::int64_t share_of(const TensorParallelPtr& parallel, std::int64_t count, const char* what) {
  return parallel ? parallel->share_of(count, what) : count;
}
Tensor dropout_inside(const TensorParallelPtr& parallel, const Tensor& input, double p, bool train);
Tensor dropout_outside(const TensorParallelPtr& parallel, const Tensor& input, double p, bool train);

// Sets a parameter of `layer` to this rank's part of what `draw` makes of the whole one: initial weights then do not depend on
// how many ranks there are. Costs one whole parameter at a time.
void initialize_whole(torch::nn::Module& layer, const std::string& name, Tensor& parameter,
                      const std::function<void(Tensor&)>& draw);

// While it is in force on this thread, initialize_whole leaves parameters alone and hands what was drawn for each over, in
// `dtype`: a model larger than memory gets its initial weights one by one.
class InitialValues {
 public:
  using Take = std::function<void(const Tensor& parameter, const Tensor& value)>;
  InitialValues(c10::ScalarType dtype, Take take);
  ~InitialValues();
  InitialValues(const InitialValues&) = delete;
  InitialValues& operator=(const InitialValues&) = delete;
};

}  // namespace oumi::nn
