// How a config struct lists its fields. Each field has one entry (member, name, unit, one line of help); parsing, dumping,
// comparing, --help and docs/config-reference.md all walk these lists, so a field added to one is added to all of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "oumi/base/json.h"

namespace oumi {

struct Value;
struct Field;
using FieldList = std::span<const Field>;

// Oumi's `int | str`: a count, or a word such as "auto".
using IntOrString = std::variant<std::int64_t, std::string>;

// The operations of a field's C++ type, erased. Instances come from type_ops<T> (codec.h).
struct FieldType {
  std::string (*name)();                                                   // "int", "list[str]", "str | null", ...
  void (*read)(const Value& value, const std::string& key, void* member);  // throws UserError naming `key`
  Json (*write)(const void* member);
  FieldList (*children)();   // of a section or list of sections, else empty
  Json (*child_defaults)();  // of a fresh section or list item, else null
  bool is_list;              // children are those of the list's items
};

struct Field {
  const char* name;
  const char* unit;  // "steps", "tokens", ...; empty where there is none
  const char* help;  // one line
  const FieldType* type;
  void* (*member)(void* owner);
  bool required = false;  // Oumi's "(required)": has no default
};

}  // namespace oumi
