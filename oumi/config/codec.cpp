#include "oumi/config/codec.h"

#include "oumi/config/schema.h"

namespace oumi {

void throw_type_error(const std::string& key, const std::string& wanted, const Value& got, const std::string& hint) {
  throw UserError(key, "expected " + wanted + ", got " + describe_value(got) + at(got.location), hint);
}

std::int64_t read_int(const Value& value, const std::string& key) {
  if (value.kind == Value::Kind::kInt) return value.scalar.get<std::int64_t>();
  if (value.kind == Value::Kind::kString) {
    if (const auto parsed = python_int(value.scalar.get_ref<const std::string&>())) return *parsed;
  }
  const bool whole = value.kind == Value::Kind::kFloat && std::floor(value.scalar.get<double>()) == value.scalar.get<double>();
  throw_type_error(key, "int", value, whole ? "write the whole number without a dot or an exponent" : "");
}

double read_float(const Value& value, const std::string& key) {
  switch (value.kind) {
    case Value::Kind::kInt: return static_cast<double>(value.scalar.get<std::int64_t>());
    case Value::Kind::kHugeInt:
    case Value::Kind::kFloat: return value.scalar.get<double>();
    case Value::Kind::kString:
      if (const auto parsed = python_float(value.scalar.get_ref<const std::string&>())) return *parsed;
      [[fallthrough]];
    default: throw_type_error(key, "float", value);
  }
}

bool read_bool(const Value& value, const std::string& key) {
  if (value.kind == Value::Kind::kBool) return value.scalar.get<bool>();
  if (value.kind == Value::Kind::kInt) return value.scalar.get<std::int64_t>() != 0;
  if (value.kind == Value::Kind::kString) {
    if (const auto number = python_int(value.scalar.get_ref<const std::string&>())) return *number != 0;
    const std::string word = to_lower(value.scalar.get_ref<const std::string&>());
    for (const char* yes : {"yes", "y", "on", "true"}) {
      if (word == yes) return true;
    }
    for (const char* no : {"no", "n", "off", "false"}) {
      if (word == no) return false;
    }
  }
  throw_type_error(key, "bool", value, "write true or false");
}

std::string read_string(const Value& value, const std::string& key) {
  switch (value.kind) {
    case Value::Kind::kString: return value.scalar.get<std::string>();
    case Value::Kind::kInt: return value.scalar.dump();
    case Value::Kind::kFloat: return python_repr(value.scalar.get<double>());
    case Value::Kind::kBool: return value.scalar.get<bool>() ? "True" : "False";
    default: throw_type_error(key, "str", value);
  }
}

Json read_dict(const Value& value, const std::string& key) {
  if (value.kind != Value::Kind::kDict) throw_type_error(key, "dict", value);
  for (const Entry& entry : value.entries) {
    if (!entry.key_is_string) {
      throw UserError(key, "expected keys of type str, got " + entry.key + at(entry.key_location), "put the key in quotes");
    }
  }
  return value_to_json(value, key);
}

int read_enum(const Value& value, const std::string& key, std::span<const EnumName> names) {
  if (value.kind == Value::Kind::kString || value.kind == Value::Kind::kInt) {
    const std::string word = to_lower(read_string(value, key));
    for (const EnumName& entry : names) {
      if (word == to_lower(entry.name) || word == to_lower(entry.alias)) return entry.value;
    }
  }
  std::vector<std::string> known;
  for (const EnumName& entry : names) known.emplace_back(entry.name);
  const std::string near = value.kind == Value::Kind::kString ? nearest_match(value.scalar.get<std::string>(), known) : "";
  throw_type_error(key, "one of " + join(known, ", "), value, near.empty() ? "" : "did you mean '" + near + "'?");
}

std::string enum_type_name(std::span<const EnumName> names) {
  std::vector<std::string> known;
  for (const EnumName& entry : names) known.emplace_back(entry.name);
  return join(known, " / ");
}

void read_fields(const Value& value, const std::string& key, FieldList fields, void* owner) {
  if (value.kind != Value::Kind::kDict) throw_type_error(key.empty() ? "config" : key, "dict", value);
  for (const Entry& entry : value.entries) {
    const std::string child = key.empty() ? entry.key : key + "." + entry.key;
    const Field* found = nullptr;
    for (const Field& candidate : fields) {
      if (entry.key == candidate.name) found = &candidate;
    }
    if (found == nullptr) {
      throw UserError(child, "unknown key" + at(entry.key_location), unknown_key_hint(key, entry.key, fields));
    }
    found->type->read(entry.value, child, found->member(owner));
  }
}

Json write_fields(FieldList fields, const void* owner) {
  Json out = Json::object();
  for (const Field& entry : fields) {
    // Members are reached through a non-const pointer and only read.
    out.get_ref<Json::object_t&>().emplace_back(entry.name, entry.type->write(entry.member(const_cast<void*>(owner))));
  }
  return out;
}

}  // namespace oumi
