// The layers that models are built of: PyTorch's names, arguments, parameter names and initial weights (bit for bit for a
// seed), on our module call path: shape errors name the layer, hooks run, and Linear has an adapter slot.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "oumi/tensors/module.h"

namespace oumi {
class TensorParallel;
}
namespace oumi::kernels {
struct LowRankFactors;
}

namespace oumi::nn {

// What LoRA and quantised bases plug into a Linear. Given the input and the layer's own parameters, computes the output.
class LinearAdapter {
 public:
  virtual ~LinearAdapter() = default;
  // input [*, in_features] -> [*, out_features]; bias may be undefined, and so is a weight that was taken out of the layer.
  virtual Tensor forward(const Tensor& input, const Tensor& weight, const Tensor& bias) = 0;
  // The layer's weight as a dense tensor, where the adapter holds it in another form; undefined where it does not.
  virtual Tensor dense_weight() const { return {}; }
  // The low-rank product of the input that is all it adds to the layer's own, so that layers with one input can go together.
  virtual std::optional<kernels::LowRankFactors> update() const;
};

// y = x W^T + b.
class LinearImpl : public Module {
 public:
  LinearImpl(std::int64_t in_features, std::int64_t out_features, bool with_bias = true);
  // [*, in_features] -> [*, out_features]
  virtual Tensor forward(const Tensor& input);
  // W ~ U(+-1/sqrt(in_features)) through Kaiming's formula with a = sqrt(5), then b ~ U(+-1/sqrt(in_features)), as PyTorch.
  void reset_parameters();
  // Uses another layer's tensor [out_features, in_features] as weight, which is then no parameter of this layer (tied heads).
  void share_weight(const Tensor& shared);

  Tensor weight;  // [out_features, in_features]
  Tensor bias;    // [out_features], undefined without bias
  std::shared_ptr<LinearAdapter> adapter;

  std::int64_t in_features() const noexcept { return in_features_; }
  std::int64_t out_features() const noexcept { return out_features_; }

  // For adapters that hold the weight in another form: takes the parameter out of the module (`weight` is then undefined) and
  // returns it; set_weight puts one back, which requires a gradient when `weight` does.
  Tensor release_weight();
  void set_weight(Tensor weight);

 private:
  std::int64_t in_features_, out_features_;
};
OUMI_MODULE(Linear);

struct Conv2dOptions {
  std::int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
  bool bias = true;
};

class Conv2dImpl : public Module {
 public:
  Conv2dImpl(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel_size, Conv2dOptions options = {});
  // [batch, in_channels, height, width] -> [batch, out_channels, height', width']
  Tensor forward(const Tensor& input);
  // forward, ReLU and 2 x 2 max-pooling in one fused pass (kernels/conv_relu_pool.h) -> [batch, out_channels, height' / 2,
  // width' / 2]. A call of this module as forward is: hooks run around all three. Throws UserError unless stride, dilation and
  // groups are 1 and padding is 0.
  Tensor relu_pool(const Tensor& input);
  void reset_parameters();

  Tensor weight;  // [out_channels, in_channels / groups, kernel_size, kernel_size]
  Tensor bias;    // [out_channels], undefined without bias

 private:
  void check(const Tensor& input) const;

  std::int64_t in_channels_;
  Conv2dOptions options_;
};
OUMI_MODULE(Conv2d);

class EmbeddingImpl : public Module {
 public:
  EmbeddingImpl(std::int64_t num_embeddings, std::int64_t embedding_dim);
  // Integer ids [*] -> [*, embedding_dim]. Throws UserError naming the id when one is outside [0, num_embeddings).
  virtual Tensor forward(const Tensor& ids);

  Tensor weight;                  // [num_embeddings, embedding_dim], ~ N(0, 1)
  std::int64_t padding_idx = -1;  // the row that gets no gradient; -1 for none
  double scale = 1;               // of what comes out, rounded to its dtype (Gemma)

 protected:
  static void check_ids(const Tensor& ids, std::int64_t num_embeddings);

 private:
  std::int64_t num_embeddings_;
};
OUMI_MODULE(Embedding);

class LayerNormImpl : public Module {
 public:
  explicit LayerNormImpl(std::int64_t normalized_size, double eps = 1e-5);
  // [*, normalized_size] -> the same shape.
  Tensor forward(const Tensor& input);
  // forward(input) again at any later time, by today's weight and bias.
  std::function<Tensor()> again(const Tensor& input) const;

  Tensor weight, bias;  // [normalized_size]; ones and zeros

 private:
  std::int64_t normalized_size_;
  double eps_;
  std::shared_ptr<const TensorParallel> sequence_shards_;  // set where the input is this rank's tokens
};
OUMI_MODULE(LayerNorm);

class DropoutImpl : public Module {
 public:
  explicit DropoutImpl(double p = 0.5);
  // Active in training mode only.
  Tensor forward(const Tensor& input);

 private:
  double p_;
  std::shared_ptr<const TensorParallel> parallel_;
};
OUMI_MODULE(Dropout);

}  // namespace oumi::nn
