// The table of built-in chat templates. chat_template.h hands out their sources.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace oumi::text {

struct BuiltinTemplate {
  std::string name;                 // Oumi's
  std::string source;               // Jinja
  std::vector<std::string> tokens;  // what it writes that should be one token each
  std::string end_of_turn;          // the token that ends a turn; empty where eos_token or nothing does
};

const std::vector<BuiltinTemplate>& builtin_templates();
// In any case. Throws UserError with the nearest name.
const BuiltinTemplate& builtin_template(std::string_view name);

}  // namespace oumi::text
