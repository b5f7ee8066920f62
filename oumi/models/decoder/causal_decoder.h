// The decoder that all families with rotary positions share: embedding, blocks, last norm, head.
#pragma once

#include <functional>
#include <memory>

#include <torch/nn/modules/container/modulelist.h>

#include "oumi/models/decoder/decoder_config.h"
#include "oumi/models/language_model.h"

namespace oumi {

// The block of a family, as its own class.
using DecoderLayerFactory = std::function<nn::DecoderLayer(const nn::DecoderLayerConfig&)>;

template <class LayerImpl>
DecoderLayerFactory decoder_layer_factory() {
  return [](const nn::DecoderLayerConfig& config) {
    return nn::DecoderLayer(std::static_pointer_cast<nn::DecoderLayerImpl>(std::make_shared<LayerImpl>(config)));
  };
}

// Parameters: embed_tokens, layers.N, norm.
class DecoderStackImpl : public Module {
 public:
  DecoderStackImpl(DecoderConfig config, const DecoderLayerFactory& make_layer);
  // The normalised last hidden states [B, T, hidden_size], as the head wants them (TensorParallel::enter).
  Tensor forward(const DecoderInputs& inputs);

  nn::Embedding embed_tokens{nullptr};
  const DecoderConfig& config() const noexcept { return config_; }

 private:
  DecoderConfig config_;
  TensorParallelPtr parallel_;
  std::vector<nn::DecoderLayer> layers_;
  nn::RmsNorm norm{nullptr};
};
OUMI_MODULE(DecoderStack);

// Parameters: model (the stack), lm_head.
class CausalDecoder : public LanguageModel {
 public:
  CausalDecoder(const DecoderConfig& config, const DecoderLayerFactory& make_layer);

  Tensor hidden_states(const DecoderInputs& inputs) override { return model_(inputs); }
  Tensor logits(const Tensor& hidden) override;
  nn::Embedding input_embeddings() override { return model_->embed_tokens; }
  nn::Linear output_head() override;
  LanguageModelDimensions dimensions() const override { return model_->config().dimensions; }
  void initialize_weights() override;

 protected:
  double final_logit_soft_cap() const override { return model_->config().final_logit_soft_cap; }

 private:
  DecoderStack model_{nullptr};
  nn::Linear lm_head_{nullptr};
};

// --- what decoders of any kind do with their inputs ---

// int64 [T], or the inputs' own [B, T].
Tensor decoder_positions(const DecoderInputs& inputs, std::int64_t new_tokens, c10::Device device);

// int32 [B, S] or undefined when no token is hidden from a later one. Throws UserError when the shapes do not fit.
Tensor decoder_segments(const DecoderInputs& inputs, std::int64_t new_tokens);

// Embeddings [B, T, hidden_size] of ids, or those given, as they are outside of parallel parts.
Tensor embed_inputs(const DecoderInputs& inputs, const nn::Embedding& embedding, const TensorParallelPtr& parallel);

// normal(0, std) for every Linear and Embedding, zeros for biases and padding rows.
void initialize_normal(torch::nn::Module& module, double std);

}  // namespace oumi
