// Text for HTML pages and the numbers on them.
#pragma once

#include <string>
#include <string_view>

namespace oumi {

// Safe as text and inside of quoted attributes; bytes that are no UTF-8 and control characters become U+FFFD.
std::string escape_html(std::string_view text);

// At most six significant digits: 0.9137, 5e-05, 12,345; "NaN" and "∞" for what is not finite.
std::string display_number(double value);

}  // namespace oumi
