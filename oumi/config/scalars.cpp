#include "oumi/config/scalars.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

template <class Predicate>
std::size_t skip(std::string_view text, std::size_t at, Predicate predicate) {
  while (at < text.size() && predicate(text[at])) ++at;
  return at;
}

bool digit_or_underscore(char c) { return is_digit(c) || c == '_'; }

std::string without_underscores(std::string_view text) {
  std::string plain(text);
  std::erase(plain, '_');
  return plain;
}

// [0-9]+(_[0-9]+)* from `at`; returns `at` itself when there is none.
std::size_t skip_digit_groups(std::string_view text, std::size_t at) {
  std::size_t end = skip(text, at, is_digit);
  if (end == at) return at;
  while (end + 1 < text.size() && text[end] == '_' && is_digit(text[end + 1])) end = skip(text, end + 1, is_digit);
  return end;
}

// The end of (:[0-5]?[0-9])+ from `at`, or `at` when it does not match.
std::size_t skip_base_60(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end + 1 < text.size() && text[end] == ':' && is_digit(text[end + 1])) {
    const bool two = text[end + 1] <= '5' && end + 2 < text.size() && is_digit(text[end + 2]);
    end += two ? 3 : 2;
  }
  return end;
}

std::size_t skip_exponent(std::string_view text, std::size_t at, bool sign_required) {
  if (at >= text.size() || (text[at] != 'e' && text[at] != 'E')) return at;
  std::size_t digits = at + 1;
  const bool has_sign = digits < text.size() && (text[digits] == '+' || text[digits] == '-');
  if (has_sign) ++digits;
  if (sign_required && !has_sign) return at;
  const std::size_t end = skip(text, digits, is_digit);
  return end == digits ? at : end;
}

bool looks_like_int(std::string_view text) {
  std::size_t start = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const std::string_view body = text.substr(start);
  if (body.empty()) return false;
  if (body == "0") return true;
  if (body[0] == '0') {
    if (body.size() > 2 && body[1] == 'b')
      return skip(body, 2, [](char c) { return c == '0' || c == '1' || c == '_'; }) == body.size();
    if (body.size() > 2 && body[1] == 'x') {
      return skip(body, 2, [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) || c == '_'; }) == body.size();
    }
    return skip(body, 1, [](char c) { return (c >= '0' && c <= '7') || c == '_'; }) == body.size();
  }
  if (!is_digit(body[0])) return false;
  const std::size_t end = skip(body, 0, digit_or_underscore);
  return end == body.size() || skip_base_60(body, end) == body.size();
}

bool looks_like_float(std::string_view text) {
  std::size_t start = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const std::string_view body = text.substr(start);
  if (one_of(body, {".inf", ".Inf", ".INF"})) return true;
  if (one_of(text, {".nan", ".NaN", ".NAN"})) return true;
  if (body.empty()) return false;
  if (body[0] == '.') {
    // Only without a sign; "-.5" is a string to this loader.
    if (start == 1 || body.size() < 2 || !is_digit(body[1])) return false;
    return skip_exponent(body, skip(body, 1, digit_or_underscore), true) == body.size();
  }
  if (!is_digit(body[0])) return false;
  const std::size_t integral = skip(body, 0, digit_or_underscore);
  if (integral < body.size() && body[integral] == '.') {
    const std::size_t fraction = skip(body, integral + 1, digit_or_underscore);
    if (fraction == body.size()) return true;
    // With an unsigned exponent the integral part's underscores must stand between digits.
    const bool strict_groups = skip_digit_groups(body, 0) == integral;
    return skip_exponent(body, fraction, !strict_groups) == body.size();
  }
  const std::size_t base_60 = skip_base_60(body, integral);
  if (base_60 > integral && base_60 < body.size() && body[base_60] == '.') {
    return skip(body, base_60 + 1, digit_or_underscore) == body.size();
  }
  const std::size_t groups = skip_digit_groups(body, 0);
  return groups < body.size() && skip_exponent(body, groups, false) == body.size();
}

Value number(std::int64_t integer) {
  Value value;
  value.kind = Value::Kind::kInt;
  value.scalar = integer;
  return value;
}

double to_double(const std::string& text) {
  // std::from_chars knows no leading '+' and reports overflow as an error; Python gives inf.
  const char* begin = text.c_str() + (text.starts_with('+') ? 1 : 0);
  double result = 0;
  const auto [end, error] = std::from_chars(begin, text.c_str() + text.size(), result);
  if (error == std::errc::result_out_of_range) {
    const std::size_t exponent = text.find_first_of("eE");
    const bool tiny = exponent != std::string::npos && text.find('-', exponent) != std::string::npos;
    result = tiny ? 0.0 : HUGE_VAL;
    return *begin == '-' ? -result : result;
  }
  return result;
}

Value construct_int(std::string_view text) {
  std::string digits = without_underscores(text);
  bool negative = false;
  if (digits[0] == '-' || digits[0] == '+') {
    negative = digits[0] == '-';
    digits.erase(0, 1);
  }
  int base = 10;
  if (digits.starts_with("0b")) {
    base = 2;
    digits.erase(0, 2);
  } else if (digits.starts_with("0x")) {
    base = 16;
    digits.erase(0, 2);
  } else if (digits.size() > 1 && digits[0] == '0') {
    base = 8;
  }
  std::uint64_t magnitude = 0;
  bool overflow = false;
  for (const std::string& part : split(digits, ':')) {
    std::uint64_t parsed = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), parsed, base);
    overflow = overflow || error == std::errc::result_out_of_range ||
               __builtin_mul_overflow(magnitude, std::uint64_t{60}, &magnitude) ||
               __builtin_add_overflow(magnitude, parsed, &magnitude);
  }
  constexpr auto kLimit = static_cast<std::uint64_t>(INT64_MAX);
  if (!overflow && magnitude <= kLimit)
    return number(negative ? -static_cast<std::int64_t>(magnitude) : static_cast<std::int64_t>(magnitude));
  if (!overflow && negative && magnitude == kLimit + 1) return number(INT64_MIN);
  Value value;
  value.kind = Value::Kind::kHugeInt;
  const double size = base == 10 ? to_double(digits) : (overflow ? HUGE_VAL : static_cast<double>(magnitude));
  value.scalar = negative ? -size : size;
  return value;
}

Value construct_float(std::string_view text) {
  std::string plain = to_lower(without_underscores(text));
  double result = 0;
  if (plain.ends_with(".inf")) {
    result = plain[0] == '-' ? -HUGE_VAL : HUGE_VAL;
  } else if (plain == ".nan") {
    result = std::nan("");
  } else if (plain.find(':') != std::string::npos) {
    const bool negative = plain[0] == '-';
    if (negative || plain[0] == '+') plain.erase(0, 1);
    for (const std::string& part : split(plain, ':')) result = result * 60 + to_double(part);
    if (negative) result = -result;
  } else {
    result = to_double(plain);
  }
  Value value;
  value.kind = Value::Kind::kFloat;
  value.scalar = result;
  return value;
}

}  // namespace

Value resolve_plain_scalar(std::string_view text) {
  Value value;
  if (one_of(text, {"", "~", "null", "Null", "NULL"})) return value;
  const bool yes = one_of(text, {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"});
  if (yes || one_of(text, {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})) {
    value.kind = Value::Kind::kBool;
    value.scalar = yes;
    return value;
  }
  if (looks_like_int(text)) return construct_int(text);
  if (looks_like_float(text)) return construct_float(text);
  value.kind = Value::Kind::kString;
  value.scalar = std::string(text);
  return value;
}

std::optional<std::int64_t> python_int(std::string_view text) {
  std::string digits = trim(text);
  const std::size_t start = !digits.empty() && (digits[0] == '-' || digits[0] == '+') ? 1 : 0;
  if (digits.size() == start || skip_digit_groups(digits, start) != digits.size()) return std::nullopt;
  digits = without_underscores(digits);
  const char* begin = digits.data() + (digits[0] == '+' ? 1 : 0);
  std::int64_t result = 0;
  const auto [end, error] = std::from_chars(begin, digits.data() + digits.size(), result);
  if (error != std::errc()) return std::nullopt;
  return result;
}

std::optional<double> python_float(std::string_view text) {
  const std::string plain = to_lower(trim(text));
  const std::size_t start = !plain.empty() && (plain[0] == '-' || plain[0] == '+') ? 1 : 0;
  const std::string_view body = std::string_view(plain).substr(start);
  const double sign = start == 1 && plain[0] == '-' ? -1.0 : 1.0;
  if (one_of(body, {"inf", "infinity"})) return sign * HUGE_VAL;
  if (body == "nan") return std::nan("");
  const std::size_t integral = skip_digit_groups(body, 0);
  std::size_t end = integral;
  bool has_digits = integral > 0;
  if (end < body.size() && body[end] == '.') {
    const std::size_t fraction = skip_digit_groups(body, end + 1);
    has_digits = has_digits || fraction > end + 1;
    end = fraction;
  }
  if (!has_digits || skip_exponent(body, end, false) != body.size()) return std::nullopt;
  return to_double(without_underscores(plain));
}

std::string python_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  if (value == 0) return std::signbit(value) ? "-0.0" : "0.0";
  std::array<char, 40> buffer;
  const auto scientific = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string text(buffer.data(), scientific.ptr);
  const std::size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return text;  // to_chars writes at least two digits of exponent, as Python does
  std::array<char, 40> fixed_buffer;
  const auto fixed =
      std::to_chars(fixed_buffer.data(), fixed_buffer.data() + fixed_buffer.size(), value, std::chars_format::fixed);
  std::string plain(fixed_buffer.data(), fixed.ptr);
  if (plain.find('.') == std::string::npos) plain += ".0";
  return plain;
}

std::string yaml_float(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value < 0 ? "-.inf" : ".inf";
  std::string text = python_repr(value);
  // YAML 1.1 wants a dot in a float: PyYAML alone takes 1e-05 for a string.
  if (const std::size_t e = text.find('e'); e != std::string::npos && text.find('.') == std::string::npos) text.insert(e, ".0");
  return text;
}

std::string yaml_string(std::string_view text) {
  const auto plain_char = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '/' || c == '.' || c == '-' || c == ' ';
  };
  const auto plain_first = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '/'; };
  const bool plain =
      !text.empty() && plain_first(text.front()) && text.back() != ' ' && std::all_of(text.begin(), text.end(), plain_char) &&
      !one_of(to_lower(text), {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"});
  if (plain) return std::string(text);
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = [&](std::size_t k) { return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0; };
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += text[i];
    } else if (byte == '\n') {
      out += "\\n";
    } else if (byte == '\t') {
      out += "\\t";
    } else if (byte == '\r') {
      out += "\\r";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else if (byte == 0xC2 && next(1) >= 0x80 && next(1) <= 0xA0) {  // C1 controls and no-break space
      out += {'\\', 'x', kHex[next(1) >> 4], kHex[next(1) & 15]};
      ++i;
    } else if (byte == 0xE2 && next(1) == 0x80 && (next(2) == 0xA8 || next(2) == 0xA9)) {  // line and paragraph separator
      out += next(2) == 0xA8 ? "\\u2028" : "\\u2029";
      i += 2;
    } else if (byte == 0xEF && next(1) == 0xBB && next(2) == 0xBF) {  // byte order mark
      out += "\\uFEFF";
      i += 2;
    } else if (byte == 0xEF && next(1) == 0xBF && next(2) >= 0xBE) {  // U+FFFE and U+FFFF are no YAML characters
      out += next(2) == 0xBE ? "\\uFFFE" : "\\uFFFF";
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out + "\"";
}

}  // namespace oumi
