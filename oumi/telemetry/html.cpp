#include "oumi/telemetry/html.h"

#include <fmt/core.h>

#include <cmath>

#include "oumi/base/text_bytes.h"

namespace oumi {

std::string escape_html(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : valid_utf8(text)) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      case '\'': result += "&#39;"; break;
      default:
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7F)
          result += "\xEF\xBF\xBD";
        else
          result += c;
    }
  }
  return result;
}

std::string display_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  if (value == std::floor(value) && std::abs(value) < 1e15) {
    std::string digits = fmt::format("{:.0f}", value);
    const std::size_t first = digits.front() == '-' ? 1 : 0;
    for (std::size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, 1, ',');
    return digits;
  }
  return fmt::format("{:.{}g}", value, std::abs(value) >= 1000 ? 6 : 5);
}

}  // namespace oumi
