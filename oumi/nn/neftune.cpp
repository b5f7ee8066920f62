#include "oumi/nn/neftune.h"

#include <ATen/ops/zeros_like.h>

#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi::nn {

void NeftuneHook::after(Module& module, const TensorRefs& results) {
  if (!module.is_training()) return;
  Tensor& output = *results.front();
  if (output.dim() != 3) {
    throw UserError("training.neftune_noise_alpha", cat("expected embeddings [batch, tokens, width], got ", output.sizes()),
                    "NEFTune is for language models");
  }
  // In float32, as torch.sqrt of an integer tensor.
  const auto magnitude =
      static_cast<double>(static_cast<float>(alpha_) / std::sqrt(static_cast<float>(output.size(1) * output.size(2))));
  output = output + at::zeros_like(output.detach()).uniform_(-magnitude, magnitude);
}

}  // namespace oumi::nn
