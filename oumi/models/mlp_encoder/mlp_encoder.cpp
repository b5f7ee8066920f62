#include "oumi/models/mlp_encoder/mlp_encoder.h"

#include <ATen/ops/relu.h>

#include "oumi/models/model_inputs.h"

namespace oumi {

MlpEncoder::MlpEncoder(const Kwargs& kwargs) {
  const auto input_dim = positive(kwargs, "input_dim", 768), hidden_dim = positive(kwargs, "hidden_dim", 128),
             output_dim = positive(kwargs, "output_dim", 10);
  embedding = register_module("embedding", nn::Embedding(input_dim, hidden_dim));
  fc1 = register_module("fc1", nn::Linear(hidden_dim, hidden_dim));
  fc2 = register_module("fc2", nn::Linear(hidden_dim, output_dim));
}

Outputs MlpEncoder::forward(const Batch& batch) {
  const Tensor logits = fc2(at::relu(fc1(embedding(first_of(batch, {"input_ids"})))));  // [batch, seq, output_dim]

  Outputs outputs{{"logits", logits}};
  if (const Tensor* labels = batch.find("labels")) {
    // Oumi's own marker for "no label" is -1; both markers become -100.
    const Tensor targets = labels->reshape({-1}).masked_fill(labels->reshape({-1}) == -1, -100);
    outputs.set("loss", criterion()(logits.reshape({-1, logits.size(-1)}), targets));
  }
  return outputs;
}

}  // namespace oumi
