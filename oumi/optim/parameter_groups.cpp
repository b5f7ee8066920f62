#include "oumi/optim/parameter_groups.h"

#include <torch/nn/modules/normalization.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>
#include <unordered_set>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/tensors/class_name.h"

namespace oumi {
namespace {

// torch::nn::LayerNorm, what derives from it, and our own layer of that name.
bool is_layer_norm(const torch::nn::Module& module) {
  return dynamic_cast<const torch::nn::LayerNormImpl*>(&module) != nullptr || class_name(typeid(module)) == "LayerNorm";
}

// Collects the parameters inside LayerNorms. The root itself does not count, as in Hugging Face's rule.
void collect_layer_norm_parameters(const torch::nn::Module& module, std::unordered_set<const void*>& found) {
  for (const auto& child : module.children()) {
    if (is_layer_norm(*child)) {
      for (const Tensor& parameter : child->parameters()) found.insert(parameter.unsafeGetTensorImpl());
    } else {
      collect_layer_norm_parameters(*child, found);
    }
  }
}

// Names of the parameters that take no weight decay for where they are.
std::unordered_set<const void*> layer_norm_parameters(const torch::nn::Module& module) {
  std::unordered_set<const void*> found;
  collect_layer_norm_parameters(module, found);
  return found;
}

struct CompiledOverride {
  const GroupOverride* settings;
  std::regex pattern;
  bool matched = false;
};

std::vector<CompiledOverride> compile(const std::vector<GroupOverride>& overrides) {
  std::vector<CompiledOverride> compiled;
  for (const GroupOverride& override : overrides) {
    const std::string where = cat("parameter group '", override.pattern, "'");
    const auto check = [&](const char* name, const std::optional<double>& value) {
      if (value && !(*value >= 0 && std::isfinite(*value))) {
        throw UserError(where, cat(name, ": expected 0 or more, got ", *value));
      }
    };
    check("learning_rate", override.learning_rate);
    check("weight_decay", override.weight_decay);
    try {
      compiled.push_back({&override, std::regex(override.pattern), false});
    } catch (const std::regex_error& error) {
      throw UserError(where, cat("expected a regular expression, got one that does not parse: ", error.what()));
    }
  }
  return compiled;
}

[[noreturn]] void throw_unmatched(const std::string& pattern, const NamedParameters& parameters) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : parameters) names.push_back(name);
  const std::string near = nearest_match(pattern, names);
  throw UserError(cat("parameter group '", pattern, "'"),
                  "expected a pattern that matches a parameter's name, got one that matches none",
                  near.empty() ? cat("the first parameter is '", names.empty() ? "" : names.front(), "'")
                               : cat("did you mean '", near, "'?"));
}

}  // namespace

NamedParameters unique_named_parameters(const torch::nn::Module& module) {
  NamedParameters parameters;
  std::unordered_set<const void*> seen;
  for (const auto& item : module.named_parameters()) {
    if (item.value().defined() && seen.insert(item.value().unsafeGetTensorImpl()).second) {
      parameters.emplace_back(item.key(), item.value());
    }
  }
  return parameters;
}

bool is_no_decay_name(std::string_view name) {
  const std::string lower = to_lower(name);
  for (const char* part : {"bias", "layernorm", "rmsnorm"}) {
    if (lower.find(part) != std::string::npos) return true;
  }
  for (const std::string& part : split(lower, '.')) {
    if (part == "norm" || part.ends_with("_norm")) return true;
  }
  return false;
}

std::vector<std::string> decay_parameter_names(const torch::nn::Module& module) {
  const auto excluded = layer_norm_parameters(module);
  std::vector<std::string> names;
  for (const auto& [name, parameter] : unique_named_parameters(module)) {
    if (!excluded.contains(parameter.unsafeGetTensorImpl()) && !is_no_decay_name(name)) names.push_back(name);
  }
  return names;
}

std::size_t freeze_layers(torch::nn::Module& module, const std::vector<std::string>& names) {
  const auto modules = module.named_modules("", /*include_self=*/false);
  const auto parameters = module.named_parameters();
  std::vector<Tensor> frozen;
  for (const std::string& name : names) {
    if (const auto* layer = modules.find(name)) {
      for (const Tensor& parameter : (*layer)->parameters()) frozen.push_back(parameter);
    } else if (const Tensor* parameter = parameters.find(name)) {
      frozen.push_back(*parameter);
    } else {
      std::vector<std::string> known = modules.keys();
      const auto parameter_keys = parameters.keys();
      known.insert(known.end(), parameter_keys.begin(), parameter_keys.end());
      const std::string near = nearest_match(name, known);
      throw UserError("model.freeze_layers", cat("expected the name of a module or parameter, got '", name, "'"),
                      near.empty() ? "" : cat("did you mean '", near, "'?"));
    }
  }
  for (Tensor& parameter : frozen) parameter.requires_grad_(false);
  return names.size();
}

std::vector<ParameterGroup> make_parameter_groups(torch::nn::Module& module, const ParameterGroupOptions& options) {
  if (!(options.weight_decay >= 0 && std::isfinite(options.weight_decay))) {
    throw UserError("training.weight_decay", cat("expected 0 or more, got ", options.weight_decay));
  }
  const NamedParameters parameters = unique_named_parameters(module);
  const auto excluded = layer_norm_parameters(module);
  std::vector<CompiledOverride> overrides = compile(options.overrides);

  // The override of each parameter; nothing is frozen before all of them are known to match something.
  std::vector<const GroupOverride*> chosen(parameters.size(), nullptr);
  for (CompiledOverride& override : overrides) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (!std::regex_search(parameters[i].first, override.pattern)) continue;
      override.matched = true;
      if (chosen[i] == nullptr) chosen[i] = override.settings;
    }
    if (!override.matched) throw_unmatched(override.settings->pattern, parameters);
  }

  std::vector<ParameterGroup> groups = {{"decay", {}, options.weight_decay, {}}, {"no_decay", {}, 0.0, {}}};
  std::map<std::string, std::size_t> position;  // of the groups that overrides formed, by name
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    auto [name, parameter] = parameters[i];
    const bool no_decay = excluded.contains(parameter.unsafeGetTensorImpl()) || is_no_decay_name(name);
    ParameterGroup settings{no_decay ? "no_decay" : "decay", {}, no_decay ? 0.0 : options.weight_decay, {}};
    const GroupOverride* override = chosen[i];
    const bool regrouped = override != nullptr && (override->learning_rate || override->weight_decay);
    if (override != nullptr && override->freeze) parameter.requires_grad_(false);
    if (regrouped) {
      settings.learning_rate = override->learning_rate;
      settings.weight_decay = override->weight_decay.value_or(settings.weight_decay);
      settings.name += cat(" /", override->pattern, "/");
    }
    if (!parameter.requires_grad()) continue;
    std::size_t index = no_decay ? 1 : 0;
    if (regrouped) {
      index = position.try_emplace(settings.name, groups.size()).first->second;
      if (index == groups.size()) groups.push_back(settings);
    }
    groups[index].parameters.emplace_back(name, parameter);
  }
  const bool nothing = std::all_of(groups.begin(), groups.end(), [](const auto& group) { return group.parameters.empty(); });
  if (nothing) {
    throw UserError("model",
                    parameters.empty() ? "expected parameters to train, got a model without any"
                                       : "expected parameters to train, got only frozen ones",
                    parameters.empty() ? "" : "check model.freeze_layers and the parameter groups");
  }
  return groups;
}

std::vector<std::string> parameter_names(const std::vector<ParameterGroup>& groups) {
  std::vector<std::string> names;
  for (const ParameterGroup& group : groups) {
    for (const auto& [name, parameter] : group.parameters) names.push_back(name);
  }
  return names;
}

}  // namespace oumi
