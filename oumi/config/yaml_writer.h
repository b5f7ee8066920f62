// Canonical YAML: block style, keys in the order given, strings quoted wherever some reader would take them for another type.
#pragma once

#include <string>

#include "oumi/base/json.h"

namespace oumi {

// `value` as a YAML document that ends with a newline.
std::string json_to_yaml(const Json& value);

}  // namespace oumi
