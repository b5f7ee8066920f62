// Text made from the field lists: the listing behind --help-config and docs/config-reference.md.
#pragma once

#include <string>
#include <vector>

namespace oumi {

struct KeyHelp {
  std::string key;            // dotted; items of lists as datasets[]
  std::string type;           // "int", "float | null", "FULL_SHARD / ..."
  std::string default_value;  // as in YAML; "(required)" where there is none
  std::string unit;
  std::string help;
};

// Every setting that holds a value (no sections), in declaration order.
std::vector<KeyHelp> config_keys();

// One line per key, for a terminal.
std::string help_text();

std::string config_reference_markdown();

}  // namespace oumi
