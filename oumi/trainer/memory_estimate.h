// What training a model will take, before it is tried.
#pragma once

#include <cstdint>
#include <optional>

#include "oumi/models/model.h"

namespace oumi {

struct MemoryEstimate {
  std::uint64_t weights = 0, gradients = 0, optimizer = 0;  // bytes
  // What forward keeps for backward at `tokens` tokens in a micro-batch; only for language models.
  std::optional<std::uint64_t> activations = std::nullopt;
};

struct MemoryQuestion {
  std::string optimizer = "adamw_torch";  // training.optimizer
  double sgd_momentum = 0;
  std::int64_t tokens = 0;              // of a micro-batch, padding included
  bool checkpoint_activations = false;  // training.enable_gradient_checkpointing
  bool bf16_autocast = false;           // training.mixed_precision_dtype: BF16
};

// Weights, gradients and the optimizer's state by the parameters' own dtypes and the optimizer's number of moments. Activations
// by the decoder's shapes: per token and layer two residuals, two normalised inputs, query, key, value, attention's result, and
// three times the width of the feed-forward part; with checkpointing one residual a layer and one layer in full. An estimate:
// allocator and temporaries come on top.
MemoryEstimate estimate_memory(const Model& model, const MemoryQuestion& question);

}  // namespace oumi
