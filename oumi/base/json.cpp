#include "oumi/base/json.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json_depth.h"
#include "oumi/base/strings.h"

namespace oumi {

namespace {

template <class AnyJson>
AnyJson parse(const std::string& text, const std::string& origin) {
  if (too_deep_at(text)) throw UserError(origin, cat("expected JSON of at most ", kMaxJsonDepth, " levels, got more"));
  try {
    return AnyJson::parse(text);
  } catch (const typename AnyJson::parse_error& error) {
    const std::size_t at = std::min<std::size_t>(error.byte > 0 ? error.byte - 1 : 0, text.size());
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    const auto line_start = text.rfind('\n', at == 0 ? 0 : at - 1);
    const std::size_t column = line_start == std::string::npos ? at + 1 : at - line_start;
    throw UserError(origin, cat("not valid JSON at line ", line, ", column ", column),
                    text.empty() ? "the file is empty" : "check the text there; the file may be cut short");
  } catch (const typename AnyJson::out_of_range& error) {
    // The library's text ends with the number.
    const std::string what = error.what();
    throw UserError(origin, cat("not valid JSON: expected numbers that fit a float, got ", what.substr(what.rfind(' ') + 1)));
  }
}

std::string type_name(nlohmann::json::value_t type) {
  using Type = nlohmann::json::value_t;
  switch (type) {
    case Type::null: return "null";
    case Type::object: return "dict";
    case Type::array: return "list";
    case Type::string: return "str";
    case Type::boolean: return "bool";
    case Type::number_integer:
    case Type::number_unsigned: return "int";
    case Type::number_float: return "float";
    default: return "binary";
  }
}

}  // namespace

Json parse_json(const std::string& text, const std::string& origin) { return parse<Json>(text, origin); }

nlohmann::json parse_large_json(const std::string& text, const std::string& origin) {
  return parse<nlohmann::json>(text, origin);
}

Json read_json_file(const std::filesystem::path& path) { return parse_json(read_text_file(path), path.string()); }

std::string json_type_name(const Json& value) { return type_name(value.type()); }
std::string json_type_name(const nlohmann::json& value) { return type_name(value.type()); }

}  // namespace oumi
