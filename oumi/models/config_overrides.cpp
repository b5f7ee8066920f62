#include "oumi/models/config_overrides.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr const char* kRopeParameters = "rope_parameters";

const Json* override_of(const Json& overrides, const char* name) {
  const auto found = overrides.find(name);
  return found == overrides.end() ? nullptr : &*found;
}

[[noreturn]] void throw_type(const char* name, const char* expected, const Json& value) {
  throw UserError(cat("model.model_kwargs.", name),
                  cat("expected ", expected, ", got ", json_type_name(value), " ", value.dump()));
}

// The part of rope_parameters that rope_theta and rope_scaling speak of.
Json& main_part(Json& parameters) { return parameters.contains("full_attention") ? parameters["full_attention"] : parameters; }

void keep(const char* name, const Json& from, Json& to) {
  if (from.contains(name) && !to.contains(name)) to[name] = from[name];
}

void scale(Json& part, const Json& scaling) {
  if (!scaling.is_null() && !scaling.is_object()) throw_type("rope_scaling", "dict", scaling);
  Json scaled = scaling.is_null() ? Json{{"rope_type", "default"}} : scaling;
  for (const char* name : {"rope_theta", "partial_rotary_factor"}) keep(name, part, scaled);
  part = std::move(scaled);
}

// `before`: the file's rope_parameters.
void override_rope(Json& config, const Json& overrides, const Json& before) {
  if (const Json* given = override_of(overrides, kRopeParameters); given != nullptr && !given->is_null()) {
    // Without a base of its own it scales the file's.
    if (given->is_object() && !before.contains("full_attention") && !given->contains("full_attention"))
      keep("rope_theta", before, config[kRopeParameters]);
    return;
  }
  Json parameters = before;
  Json& part = main_part(parameters);
  if (!part.is_object()) return;  // the reader of the config says so
  const auto number = [&](const char* name, Json& target) {
    const Json* value = override_of(overrides, name);
    if (value == nullptr || value->is_null()) return;
    if (!value->is_number()) throw_type(name, "float", *value);
    target["rope_theta"] = *value;
    config.erase(name);
  };
  if (const Json* scaling = override_of(overrides, "rope_scaling"); scaling != nullptr) {
    scale(part, *scaling);
    config.erase("rope_scaling");
  }
  number("rope_theta", part);
  if (parameters.contains("sliding_attention")) number("rope_local_base_freq", parameters["sliding_attention"]);
  config[kRopeParameters] = std::move(parameters);
}

void disable_dropout(Json& config, const std::string& model_type) {
  if (model_type == "gpt2") {  // whose dropout is on where the file says nothing
    for (const char* name : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) config[name] = 0.0;
  }
  for (auto& [name, value] : config.items()) {
    if (value.is_number() && (name.find("drop") != name.npos)) value = 0.0;
  }
}

}  // namespace

void apply_overrides(Json& config, const Json& overrides, const std::string& model_type) {
  const Json before = config.contains(kRopeParameters) ? config[kRopeParameters] : Json();
  const Json* without_dropout = override_of(overrides, "disable_dropout");
  if (without_dropout != nullptr && !without_dropout->is_boolean() && !without_dropout->is_null())
    throw_type("disable_dropout", "bool", *without_dropout);
  for (const auto& [name, value] : overrides.items()) {
    if (name == "disable_dropout") continue;
    if (value.is_null()) {
      config.erase(name);
    } else {
      config[name] = value;
    }
  }
  if (before.is_object()) override_rope(config, overrides, before);
  if (without_dropout != nullptr && *without_dropout == true) disable_dropout(config, model_type);
}

}  // namespace oumi
