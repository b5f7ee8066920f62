// A module's weights by their PyTorch names.
#pragma once

#include <string>
#include <vector>

#include "oumi/tensors/module.h"

namespace oumi {

// Parameters and buffers in the order and by the names of PyTorch's state_dict(): module by module, parameters before
// buffers. The tensors are the module's own (no copy). Buffers without values are left out.
StateDict state_dict(const torch::nn::Module& module);

struct LoadReport {
  std::vector<std::string> missing, unexpected;  // names in the module but not in the state, and the reverse
};

// The checks of load_state_dict alone.
LoadReport compare_state_dict(const torch::nn::Module& module, const StateDict& state, bool strict, const std::string& origin);

// Copies `state` into the module's tensors, converting dtype where it differs. A wrong shape is always an error; missing and
// unexpected names are errors when `strict`. Nothing is changed when an error is thrown. `origin` names the source in errors.
LoadReport load_state_dict(torch::nn::Module& module, const StateDict& state, bool strict, const std::string& origin);

}  // namespace oumi
