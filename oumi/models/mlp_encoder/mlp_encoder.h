// Oumi's MlpEncoder (oumi/models/mlp.py): the same names, kwargs, state-dict keys and outputs. Labels of -100, which
// collators write for padding, are ignored; Oumi ignores -1 and fails on them.
#pragma once

#include "oumi/models/model.h"
#include "oumi/nn/layers.h"

namespace oumi {

// Batch: "input_ids" int64 [batch, seq], "labels" int64 [batch, seq], optional.
// Outputs: "logits" float [batch, seq, output_dim]; "loss" (mean over tokens whose label is neither -100 nor -1) with labels.
// Kwargs: input_dim (768), hidden_dim (128), output_dim (10).
class MlpEncoder : public Model {
 public:
  static constexpr const char* kModelType = "MLPEncoder";  // the class in Oumi, whose from_pretrained compares it
  explicit MlpEncoder(const Kwargs& kwargs = {});
  Outputs forward(const Batch& batch) override;

 private:
  nn::Embedding embedding{nullptr};
  nn::Linear fc1{nullptr}, fc2{nullptr};
};

}  // namespace oumi
