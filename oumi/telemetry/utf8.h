// Text from files and data sets, made valid.
#pragma once

#include <string>
#include <string_view>

namespace oumi {

// Each byte that belongs to no valid UTF-8 character (overlong forms and surrogates included) becomes U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace oumi
