// Settings given on the command line.
#pragma once

#include <string>
#include <vector>

#include "oumi/config/value.h"

namespace oumi {

// Turns what the command line left over into "key=value" items. Taken are `--a.b value`, `--a.b=value` and `a.b=value`;
// `--local-rank...`, which launchers add, is dropped. Throws UserError for a key without a value and for stray words.
std::vector<std::string> parse_overrides(const std::vector<std::string>& arguments);

// Sets `key` (dotted; list items as [0] or .0) in `root` to `text` read as YAML. Dicts merge, everything else is replaced.
// Throws UserError for an index out of range and for text that isn't YAML.
void apply_override(Value& root, const std::string& key_value);

}  // namespace oumi
