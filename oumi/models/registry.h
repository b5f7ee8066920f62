// Models by name.
#pragma once

#include <string>

#include "oumi/base/registry.h"
#include "oumi/models/model.h"

namespace oumi {

using ModelFactory = std::function<ModelPtr(const Kwargs& kwargs)>;

// Every model that a config can name; holds the built-ins from the first call on.
Registry<ModelFactory>& model_registry();

// Registers class T under its own name (config.json's model_type is the class name, so a saved folder finds it again) and,
// when given, under `alias` as well. Duplicate = UserError.
template <class T>
void register_model(const std::string& alias = "") {
  const ModelFactory factory = [](const Kwargs& kwargs) -> ModelPtr { return make_model<T>(kwargs); };
  const std::string name = class_name(typeid(T));
  model_registry().add(name, factory);
  if (!alias.empty() && to_lower(alias) != to_lower(name)) model_registry().add(alias, factory);
}

// Builds a registered model without weights. `key` is the dotted config key to blame for an unknown name.
ModelPtr create_model(const std::string& name, const Kwargs& kwargs, const std::string& key = "model.model_name");

}  // namespace oumi
