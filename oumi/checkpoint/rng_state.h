// States of the random generators, byte for byte those of torch.get_rng_state() and torch.cuda.get_rng_state().
#pragma once

#include "oumi/tensors/tensor_dict.h"

namespace oumi {

// The CPU generator's state: uint8 [5056].
Tensor cpu_rng_state();

// Throws UserError when `state` is none.
void restore_cpu_rng_state(const Tensor& state);

// Every generator that this process uses: "cpu", and "cuda:N" for each initialised CUDA device.
StateDict capture_rng_state();

// The reverse. States of devices that are not there are left out; "cpu" must be there. Throws UserError.
void restore_rng_state(const StateDict& state);

}  // namespace oumi
