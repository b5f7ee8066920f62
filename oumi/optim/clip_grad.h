// Gradient norm and clipping.
#pragma once

#include <vector>

#include "oumi/tensors/tensor_dict.h"

namespace oumi {

// The L2 norm over the gradients of `parameters` as one vector: a scalar on the first gradient's device, float64 when a
// gradient is, else float32. Half-precision gradients are summed in float32 and, unlike torch.nn.utils.get_total_norm, the
// result is not rounded to their type. Parameters without a gradient count as zero. Does not wait for the device.
Tensor grad_norm(const std::vector<Tensor>& parameters);

// Multiplies the gradients by min(1, max_norm / (norm + 1e-6)) and returns the norm before it, as
// torch.nn.utils.clip_grad_norm_ does; with max_norm <= 0 nothing is changed. A norm that is infinite or NaN is returned
// as it is and gradients are then scaled as PyTorch does (infinite: to 0 or NaN; NaN: to NaN): check it before stepping.
Tensor clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm);

// The multiplication alone, for a norm that was reduced over ranks. `norm` is a scalar tensor.
void scale_grads_to_norm(const std::vector<Tensor>& parameters, const Tensor& norm, double max_norm);

}  // namespace oumi
