#include "oumi/base/text_bytes.h"

#include <cstddef>

namespace oumi {

namespace {

// Bytes of the valid UTF-8 character that `text`, which is not empty, begins with; 0 when it begins with none.
std::size_t character_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xC2 && lead < 0xE0 ? 2
                             : lead >= 0xE0 && lead < 0xF0 ? 3
                             : lead >= 0xF0 && lead < 0xF5 ? 4
                                                           : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return 0;
  }
  if (length < 3) return length;
  // Overlong forms, surrogates and what lies beyond U+10FFFF.
  const auto second = static_cast<unsigned char>(text[1]);
  const bool invalid = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second >= 0xA0) || (lead == 0xF0 && second < 0x90) ||
                       (lead == 0xF4 && second >= 0x90);
  return invalid ? 0 : length;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    result += length > 0 ? text.substr(0, length) : "\xEF\xBF\xBD";
    text.remove_prefix(length > 0 ? length : 1);
  }
  return result;
}

std::string printable(std::string_view text, bool single_line) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const auto lead = static_cast<unsigned char>(text[0]);
    // U+0080 to U+009F are control characters too; in UTF-8 they are 0xC2 followed by 0x80 to 0x9F.
    const bool control = lead == 0x7F || (lead < 0x20 && (single_line || (lead != '\n' && lead != '\t'))) ||
                         (lead == 0xC2 && length == 2 && static_cast<unsigned char>(text[1]) < 0xA0);
    const std::string_view character = text.substr(0, length > 0 ? length : 1);
    if (length > 0 && !control) {
      result += character;
    } else {
      for (const char c : character) {
        const auto byte = static_cast<unsigned char>(c);
        result += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      }
    }
    text.remove_prefix(character.size());
  }
  return result;
}

}  // namespace oumi
