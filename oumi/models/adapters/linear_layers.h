// The linear layers of a model by name.
#pragma once

#include <string>
#include <vector>

#include "oumi/nn/layers.h"

namespace oumi {

struct LinearLayer {
  std::string name;
  nn::LinearImpl* module;  // the model's own
};

// In the order of named_modules; those that belong to adapters are left out.
std::vector<LinearLayer> linear_layers(const torch::nn::Module& model);

}  // namespace oumi
