// NEFTune (Jain et al. 2023, arXiv:2310.05914): uniform noise on the embeddings while training.
#pragma once

#include "oumi/tensors/module.h"

namespace oumi::nn {

// A call hook for an embedding layer: adds U(-m, m), m = alpha / sqrt(tokens * width), padding counted, to its output
// [batch, tokens, width]. Training mode only; draws as Hugging Face's hook does.
class NeftuneHook final : public CallHook {
 public:
  explicit NeftuneHook(double alpha) : alpha_(alpha) {}
  void after(Module& module, const TensorRefs& results) override;

 private:
  double alpha_;
};

}  // namespace oumi::nn
