// GPT-2's block, with transformers' parameter names.
#pragma once

#include "oumi/nn/attention.h"
#include "oumi/nn/mlp.h"

namespace oumi {

struct Gpt2Config {
  std::int64_t vocab_size = 0, hidden_size = 0, inner_size = 0, num_layers = 0, num_heads = 0, max_positions = 0;
  nn::Activation activation = nn::Activation::kGeluTanh;
  double layer_norm_eps = 1e-5;
  double residual_dropout = 0, embedding_dropout = 0, attention_dropout = 0;
  double initializer_range = 0.02;
  bool scale_attention = true, scale_by_inverse_layer = false;
  bool tie_word_embeddings = true;
};

// Parameters: c_attn, c_proj. Weights are [out, in], as Linear's; files hold [in, out] (hf_state_dict turns them).
class GPT2AttentionImpl : public Module {
 public:
  GPT2AttentionImpl(const Gpt2Config& config, std::int64_t layer);
  // [B, T, hidden_size] -> the same shape.
  Tensor forward(const Tensor& hidden, const nn::DecoderContext& context);

 private:
  std::int64_t num_heads_, head_dim_;  // of this rank
  nn::AttentionCore core_;
  nn::Linear c_attn{nullptr}, c_proj{nullptr};
  nn::Dropout resid_dropout{nullptr};
};
OUMI_MODULE(GPT2Attention);

// Parameters: c_fc, c_proj.
class GPT2MLPImpl : public Module {
 public:
  explicit GPT2MLPImpl(const Gpt2Config& config);
  Tensor forward(const Tensor& hidden);

 private:
  nn::Activation activation_;
  std::shared_ptr<const TensorParallel> parallel_;
  nn::Linear c_fc{nullptr}, c_proj{nullptr};
  nn::Dropout dropout{nullptr};
};
OUMI_MODULE(GPT2MLP);

// Parameters: ln_1, attn, ln_2, mlp.
class GPT2BlockImpl : public Module {
 public:
  GPT2BlockImpl(const Gpt2Config& config, std::int64_t layer);
  Tensor forward(const Tensor& hidden, const nn::DecoderContext& context);

 private:
  nn::LayerNorm ln_1{nullptr}, ln_2{nullptr};
  GPT2Attention attn{nullptr};
  GPT2MLP mlp{nullptr};
};
OUMI_MODULE(GPT2Block);

}  // namespace oumi
