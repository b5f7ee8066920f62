#include "oumi/config/yaml_writer.h"

#include "oumi/config/scalars.h"

namespace oumi {
namespace {

// A longer key needs YAML's explicit form: readers look ahead 1024 characters for the colon.
constexpr std::size_t kMaxPlainKey = 500;

void write(std::string& out, const Json& value, std::size_t indent, bool after_key);

void write_entries(std::string& out, const Json& dict, std::size_t indent, bool first_is_indented) {
  bool first = first_is_indented;
  for (const auto& [key, value] : dict.items()) {
    if (!first) out.append(indent, ' ');
    first = false;
    const std::string text = yaml_string(key);
    if (text.size() > kMaxPlainKey) {
      out += "? " + text + "\n";
      out.append(indent, ' ');
      out += ':';
    } else {
      out += text + ":";
    }
    write(out, value, indent + 2, true);
  }
}

void write_items(std::string& out, const Json& list, std::size_t indent, bool first_is_indented) {
  bool first = first_is_indented;
  for (const Json& item : list) {
    if (!first) out.append(indent, ' ');
    first = false;
    out += "-";
    write(out, item, indent + 2, false);
  }
}

// Writes what follows "key:" or "-", up to and with the newline. A dict or list in a list starts on the dash's line.
void write(std::string& out, const Json& value, std::size_t indent, bool after_key) {
  if (value.is_structured() && !value.empty()) {
    out += after_key ? "\n" : " ";
    if (value.is_object()) {
      write_entries(out, value, indent, !after_key);
    } else {
      write_items(out, value, indent, !after_key);
    }
    return;
  }
  out += ' ';
  if (value.is_object()) {
    out += "{}";
  } else if (value.is_array()) {
    out += "[]";
  } else if (value.is_string()) {
    out += yaml_string(value.get_ref<const std::string&>());
  } else if (value.is_number_float()) {
    out += yaml_float(value.get<double>());
  } else {
    out += value.dump();  // null, true, 42
  }
  out += '\n';
}

}  // namespace

std::string json_to_yaml(const Json& value) {
  std::string out;
  if (value.is_object() && !value.empty()) {
    write_entries(out, value, 0, false);
  } else if (value.is_array() && !value.empty()) {
    write_items(out, value, 0, false);
  } else {
    write(out, value, 0, true);
    out.erase(0, 1);
  }
  return out;
}

}  // namespace oumi
