// Activations that backward makes again instead of keeping: outputs of norms and elementwise functions, which cost one pass
// over memory, while the product that reads them would keep them until its own backward pass.
#pragma once

#include <functional>

#include "oumi/tensors/module.h"

namespace oumi::nn {

// Whether discard_until_backward(activation, result, ...) would free something: backward will come through `result`, and an
// operation has kept `activation` for it. The caller holds exactly one handle on it, and it is the whole of its memory.
bool is_kept_for_backward(const Tensor& activation, const Tensor& result);

// Frees the memory of `activation`, for which is_kept_for_backward holds, and has it filled by `remake` when backward has
// computed `result`'s gradient. To be called when everything that reads `activation` in forward has run; all of it must come to
// the loss through `result` alone. `remake` gives the same values again, bit for bit, whatever has become of the parameters
// since, and holds on to nothing but what backward keeps anyway.
void discard_until_backward(const Tensor& activation, const Tensor& result, std::function<Tensor()> remake);

// Whether `module` or one below it has call hooks: they may hold on to what they see, so nothing of theirs is discarded.
bool has_call_hooks(const torch::nn::Module& module);

// The above for `normed` = norm(input), which `reader` has turned into `result`.
template <class Norm>
void discard_normed(const Norm& norm, const Tensor& input, const Tensor& normed, const torch::nn::Module& reader,
                    const Tensor& result) {
  if (has_call_hooks(norm) || has_call_hooks(reader) || !is_kept_for_backward(normed, result)) return;
  discard_until_backward(normed, result, norm.again(input));
}

}  // namespace oumi::nn
