// Which parameters are trained, with which learning rate and weight decay.
//
// The rule for weight decay is Hugging Face's (Trainer.get_decay_parameter_names): parameters inside a LayerNorm and
// parameters whose lower-cased name contains `bias`, `layernorm` or `rmsnorm`, has a part `norm`, or a part that ends in
// `_norm`, do not decay; everything else does, embeddings included.
#pragma once

#include <torch/nn/module.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "oumi/tensors/tensor_dict.h"

namespace oumi {

using NamedParameters = std::vector<std::pair<std::string, Tensor>>;

// Parameters that share a learning rate and a weight decay.
struct ParameterGroup {
  std::string name;  // "decay", "no_decay", or one of these and the overrides that formed the group
  NamedParameters parameters;
  double weight_decay = 0.0;
  std::optional<double> learning_rate{};  // absent: the optimizer's
};

// Changes settings of the parameters whose dotted name matches `pattern` (ECMAScript regular expression, found anywhere
// in the name, case-sensitive). A parameter follows the first override that matches it.
struct GroupOverride {
  std::string pattern;
  std::optional<double> learning_rate{};
  std::optional<double> weight_decay{};  // applies to no-decay parameters too: it was asked for by name
  bool freeze = false;                   // clears requires_grad
};

struct ParameterGroupOptions {
  double weight_decay = 0.0;
  std::vector<GroupOverride> overrides{};
};

// Every parameter once, in the order of registration; a tied parameter under its first name (LibTorch lists it twice).
NamedParameters unique_named_parameters(const torch::nn::Module& module);

// True for names that take no weight decay by the rule above.
bool is_no_decay_name(std::string_view name);

// Names of the parameters that decay, frozen ones included, in the order of unique_named_parameters.
std::vector<std::string> decay_parameter_names(const torch::nn::Module& module);

// Clears requires_grad of everything below each dotted name of a module, or of the parameter of that name; returns the
// number of names. Throws UserError with the nearest name for one that the model does not have.
std::size_t freeze_layers(torch::nn::Module& module, const std::vector<std::string>& names);

// Group 0 decays, group 1 does not, both in the order of unique_named_parameters and present even when empty: the layout
// of Hugging Face's optimizer.pt. Groups formed by overrides follow. Frozen parameters are in none. Throws UserError for
// an override that is no regular expression, has a bad value or matches nothing, and when nothing is left to train.
std::vector<ParameterGroup> make_parameter_groups(torch::nn::Module& module, const ParameterGroupOptions& options);

// Names of all parameters of all groups in order: the order in which an optimizer made of `groups` holds them.
std::vector<std::string> parameter_names(const std::vector<ParameterGroup>& groups);

}  // namespace oumi
