// JSON with keys in the order in which they were written, so that what we write reads like what was given.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace oumi {

using Json = nlohmann::ordered_json;

// Parses a JSON file. Throws UserError naming the file, line and column.
Json read_json_file(const std::filesystem::path& path);

// Parses text; `origin` names it in the error.
Json parse_json(const std::string& text, const std::string& origin);

// The same for files with very many keys, where `Json` takes quadratic time. Keys are sorted.
nlohmann::json parse_large_json(const std::string& text, const std::string& origin);

// "int", "float", "str", "bool", "list", "dict", "null": the words that users of YAML and Python know.
std::string json_type_name(const Json& value);
std::string json_type_name(const nlohmann::json& value);

}  // namespace oumi
