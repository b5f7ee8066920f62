// model.model_kwargs over a config.json of Hugging Face's.
#pragma once

#include <string>

#include "oumi/base/json.h"

namespace oumi {

// Puts `overrides` (a dict) over `config`, key by key; null takes a key away. Besides:
// - rope_theta and rope_scaling change a newer file's rope_parameters, which Transformers 5 would look at alone; what they
// don't
//   say (the base, beside a scaling) stays the file's.
// - disable_dropout: true (Oumi's) sets every dropout of the family to 0, and is not a key of the config.
// Throws UserError naming model.model_kwargs for values of another type.
void apply_overrides(Json& config, const Json& overrides, const std::string& model_type);

}  // namespace oumi
