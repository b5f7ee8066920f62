#include "oumi/config/value.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/scalars.h"

namespace oumi {

std::string Location::text() const {
  if (source == nullptr) return "";
  return line == 0 ? *source : cat(*source, ":", line, ":", column);
}

const Value* Value::find(const std::string& key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

Value* Value::find(const std::string& key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

std::size_t count_values(const Value& value) {
  std::size_t count = 1;
  for (const Value& item : value.items) count += count_values(item);
  for (const Entry& entry : value.entries) count += count_values(entry.value);
  return count;
}

Value value_from_json(const Json& json) {
  Value value;
  switch (json.type()) {
    case Json::value_t::object:
      value.kind = Value::Kind::kDict;
      for (const auto& [key, item] : json.items()) value.entries.push_back({key, true, {}, value_from_json(item)});
      return value;
    case Json::value_t::array:
      value.kind = Value::Kind::kList;
      for (const Json& item : json) value.items.push_back(value_from_json(item));
      return value;
    case Json::value_t::null: return value;
    case Json::value_t::boolean: value.kind = Value::Kind::kBool; break;
    case Json::value_t::string: value.kind = Value::Kind::kString; break;
    case Json::value_t::number_float: value.kind = Value::Kind::kFloat; break;
    default: value.kind = Value::Kind::kInt; break;
  }
  value.scalar = json;
  return value;
}

Json value_to_json(const Value& value, const std::string& key) {
  switch (value.kind) {
    case Value::Kind::kNull: return nullptr;
    case Value::Kind::kList: {
      Json list = Json::array();
      for (std::size_t i = 0; i < value.items.size(); ++i) list.push_back(value_to_json(value.items[i], cat(key, "[", i, "]")));
      return list;
    }
    case Value::Kind::kDict: {
      Json dict = Json::object();
      for (const Entry& entry : value.entries) {
        // push_back rather than operator[]: a dict of n keys costs n, not n squared; keys are unique already.
        dict.get_ref<Json::object_t&>().emplace_back(entry.key, value_to_json(entry.value, key + "." + entry.key));
      }
      return dict;
    }
    case Value::Kind::kHugeInt: throw UserError(key, "expected an integer of at most 64 bits" + at(value.location));
    default: return value.scalar;
  }
}

std::string describe_value(const Value& value) {
  switch (value.kind) {
    case Value::Kind::kNull: return "null";
    case Value::Kind::kBool: return value.scalar.get<bool>() ? "bool true" : "bool false";
    case Value::Kind::kInt: return "int " + value.scalar.dump();
    case Value::Kind::kHugeInt: return "an integer beyond 64 bits";
    case Value::Kind::kFloat: return "float " + python_repr(value.scalar.get<double>());
    case Value::Kind::kString: {
      const auto& text = value.scalar.get_ref<const std::string&>();
      return "str '" + (text.size() > 60 ? text.substr(0, 57) + "..." : text) + "'";
    }
    case Value::Kind::kList: return cat("list of ", value.items.size());
    case Value::Kind::kDict: return cat("dict of ", value.entries.size());
  }
  return "?";
}

std::string at(const Location& location) {
  const std::string text = location.text();
  return text.empty() ? "" : " (" + text + ")";
}

void merge_values(Value& into, const Value& from) {
  if (from.kind == Value::Kind::kString && from.scalar == "???") return;
  if (into.kind != Value::Kind::kDict || from.kind != Value::Kind::kDict) {
    into = from;
    return;
  }
  into.location = from.location;
  for (const Entry& entry : from.entries) {
    if (Value* old = into.find(entry.key)) {
      merge_values(*old, entry.value);
    } else {
      into.entries.push_back(entry);
    }
  }
}

}  // namespace oumi
