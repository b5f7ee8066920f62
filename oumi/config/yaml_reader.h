// YAML text to a tree of located values.
#pragma once

#include <string>

#include "oumi/config/value.h"

namespace oumi {

// Parses one YAML document; an empty one gives null. Plain scalars are typed by resolve_plain_scalar; anchors, aliases and
// merge keys (<<) are expanded. `origin` names the text in locations and errors. Throws UserError with line and column for
// malformed text, duplicate keys, unknown tags, text that isn't UTF-8, and for aliases that expand beyond reason.
Value parse_yaml(const std::string& text, const std::string& origin);

}  // namespace oumi
