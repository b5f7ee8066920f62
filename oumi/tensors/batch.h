// What a dataset yields (Sample), what a loader yields (Batch) and what a model returns (Outputs).
#pragma once

#include <cstdint>
#include <optional>
#include <tuple>

#include "oumi/tensors/tensor_dict.h"

namespace oumi {

// One preprocessed example: model inputs and, optionally, labels. Shapes have no batch dimension.
class Sample : public TensorDict {
 public:
  using TensorDict::TensorDict;
};

// Several samples collated: every tensor has the batch dimension first.
class Batch : public TensorDict {
 public:
  using TensorDict::TensorDict;

  // A copy with every tensor on `device`.
  Batch to(c10::Device device, bool non_blocking = false) const;
  // A copy in page-locked memory; needs an accelerator.
  Batch pin_memory() const;

  // Number of samples: the first dimension of the first tensor; 0 when empty.
  std::int64_t batch_size() const;

  // Where the samples came from: their indices in the dataset, empty when unknown. Not seen by models; used by error
  // messages and predictions.
  std::vector<std::int64_t> sample_ids;
};

// A model's dict-like result. The loss is there when labels were given.
class Outputs : public TensorDict {
 public:
  using TensorDict::TensorDict;

  // The tuple convention of PyTorch models: (loss, output, ...) when labels were given, else (output, ...). Entries after
  // the loss are named "outputs", "output_1", "output_2", ...
  static Outputs from_tuple(std::vector<Tensor> values, bool first_is_loss);

  bool has_loss() const;
  // Throws UserError when the model returned none.
  const Tensor& loss() const;
  // The first output that is no loss: "logits" or "outputs" where there is one, else the first such entry.
  // Throws UserError when there is none.
  const Tensor& logits() const;
  // Further scalar losses: entries other than "loss" whose name ends in "loss" and that hold one element.
  std::vector<Entry> auxiliary_losses() const;
};

}  // namespace oumi
