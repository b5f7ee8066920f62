// The module tree with parameter counts, for `training.log_model_summary`.
#pragma once

#include <string>

#include <torch/nn/module.h>

namespace oumi {

// One line a module, indented by depth: its path, its class and the parameters in it; "frozen" where none of them is trained.
// Parameters that modules share count in each.
std::string model_summary(const torch::nn::Module& model);

}  // namespace oumi
