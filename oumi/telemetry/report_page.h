// The frame of the report's page: style, script, and the rule that nothing is loaded from anywhere.
#pragma once

#include <string>

namespace oumi {

// `title` is plain text, `body` is HTML.
std::string wrap_page(const std::string& title, const std::string& body);

}  // namespace oumi
