// The state of an optimizer by parameter name: ours, and LibTorch's Adam, AdamW, SGD, Adagrad and RMSprop.
#pragma once

#include <torch/optim/optimizer.h>

#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi {

struct OptimizerState {
  // "<parameter>.exp_avg", ... in the order of the parameters. Handles of the optimizer's own tensors, not copies: write
  // them out before the next step.
  StateDict tensors;
  // {"optimizer": kind, "hyperparameters": {...}, "groups": [{"lr", "weight_decay", "params": [names]}],
  //  "state": {parameter: {"step": n, "tensors": ["exp_avg", ...]}}}; parameters that were never updated are not in "state".
  Json scalars;
};

// `names`: one per parameter, group after group (parameter_names). Throws UserError for an optimizer whose state is not
// known (LBFGS, a user's own) and InternalError when the number of names is wrong.
OptimizerState optimizer_state(const torch::optim::Optimizer& optimizer, const std::vector<std::string>& names);

// Restores values, step counts, learning rates, weight decay and hyperparameters: continuing is then bit-exact. Copies
// tensor by tensor, so `state` may be memory-mapped. Strict: throws UserError naming the tensor or field that is missing,
// extra, or of another shape or dtype, before anything is changed.
void load_optimizer_state(torch::optim::Optimizer& optimizer, const std::vector<std::string>& names,
                          const OptimizerState& state);

}  // namespace oumi
