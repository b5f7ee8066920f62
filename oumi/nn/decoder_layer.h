// One block of a decoder: attention and a feed-forward part, each on the residual stream.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "oumi/nn/attention.h"
#include "oumi/nn/mlp.h"

namespace oumi::nn {

// Where the norms stand.
enum class NormPlacement {
  kBefore,  // x + f(norm(x)): Llama. input_layernorm, post_attention_layernorm
  kAfter,   // x + norm(f(x)): OLMo 2. post_attention_layernorm, post_feedforward_layernorm
  kBoth,    // x + norm(f(norm(x))): Gemma 2. These four: input_, post_attention_, pre_feedforward_, post_feedforward_
};

struct DecoderLayerConfig {
  AttentionConfig attention;
  GatedMlpConfig mlp;
  std::optional<SparseMoeConfig> experts{};  // instead of mlp
  NormPlacement norms = NormPlacement::kBefore;
  RmsNormOptions norm{};
  double residual_dropout = 0;
};

// Parameters: self_attn, mlp and the norms, as transformers names them. Families derive from it so that wrap classes and
// error messages know the block by its family's name (LlamaDecoderLayer).
class DecoderLayerImpl : public Module {
 public:
  explicit DecoderLayerImpl(const DecoderLayerConfig& config);
  // [B, T, hidden_size] -> the same shape, or [B, 1, hidden_size] with last_token_only.
  Tensor forward(const Tensor& hidden, const DecoderContext& context);

 private:
  // A branch of input_layernorm(hidden), and of norm(hidden + branch) with that sum. Backward makes the norms' outputs again.
  Tensor attention_of_normed(const Tensor& hidden, const DecoderContext& context);
  std::pair<Tensor, Tensor> feed_forward_of_normed(RmsNormImpl& norm, const Tensor& hidden, const Tensor& branch);
  Tensor feed_forward(const Tensor& hidden);

  NormPlacement norms_;
  double residual_dropout_;
  std::shared_ptr<const TensorParallel> parallel_;
  Attention self_attn{nullptr};
  GatedMlp mlp{nullptr};
  SparseMoe experts{nullptr};
  RmsNorm input_layernorm{nullptr}, post_attention_layernorm{nullptr}, pre_feedforward_layernorm{nullptr},
      post_feedforward_layernorm{nullptr};
};
OUMI_MODULE(DecoderLayer);

}  // namespace oumi::nn
