// Text from files, data sets and command lines, made fit to be shown or stored.
#pragma once

#include <string>
#include <string_view>

namespace oumi {

// Each byte that belongs to no valid UTF-8 character (overlong forms and surrogates included) becomes U+FFFD.
std::string valid_utf8(std::string_view text);

// `text` with control characters (newline and tab included when `single_line`) and bytes that are not UTF-8 replaced by \xNN,
// so that names and messages that quote a file can neither steer the terminal nor break the line.
std::string printable(std::string_view text, bool single_line = true);

}  // namespace oumi
