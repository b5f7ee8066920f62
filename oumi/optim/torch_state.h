// PyTorch's own layout of optimizer.pt and scheduler.pt, as plain IValues (dicts, lists, numbers, tensors) for a pickle
// reader or writer.
//   optimizer: {"state": {i: {"step", "exp_avg", ...}}, "param_groups": [{"lr", ..., "params": [i, ...]}]}
//   scheduler: {"base_lrs", "last_epoch", "_step_count", "_is_initial", "_get_lr_called_within_step", "_last_lr", "lr_lambdas"}
//              or the fields of ReduceLROnPlateau / GreedyLR
// Parameters are numbered through the groups in order: with make_parameter_groups, decaying ones first.
#pragma once

#include <ATen/core/ivalue.h>

#include "oumi/optim/lr_schedule.h"
#include "oumi/optim/optimizer_state.h"

namespace oumi {

// Tensors are handles, not copies; steps are float32 scalar tensors (an int for Adafactor), as PyTorch writes them.
c10::IValue to_torch_optimizer_state(const torch::optim::Optimizer& optimizer);

// Strict, as load_optimizer_state; errors name parameters by `names`.
void load_torch_optimizer_state(torch::optim::Optimizer& optimizer, const std::vector<std::string>& names,
                                const c10::IValue& state);

c10::IValue to_torch_scheduler_state(const LrScheduler& scheduler);
void load_torch_scheduler_state(LrScheduler& scheduler, const c10::IValue& state);

}  // namespace oumi
