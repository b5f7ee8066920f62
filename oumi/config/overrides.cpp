#include "oumi/config/overrides.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/aliases.h"
#include "oumi/config/yaml_reader.h"

namespace oumi {
namespace {

bool is_dropped(const std::string& argument) {
  return argument.starts_with("--local-rank") || argument.starts_with("--local_rank");
}

bool is_integer(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "a.b[0].c" -> a, b, 0, c.
std::vector<std::string> split_key(const std::string& key) {
  std::vector<std::string> parts;
  for (const std::string& dotted : split(key, '.')) {
    const std::size_t bracket = dotted.find('[');
    if (bracket != 0 || dotted.empty()) parts.push_back(dotted.substr(0, bracket));
    std::size_t at = bracket;
    while (at != std::string::npos && at < dotted.size()) {
      const std::size_t close = dotted.find(']', at);
      if (dotted[at] != '[' || close == std::string::npos || close == at + 1) {
        throw UserError(key, "expected brackets with an index, as in data.train.datasets[0].split", "");
      }
      parts.push_back(dotted.substr(at + 1, close - at - 1));
      at = close + 1;
    }
  }
  for (const std::string& part : parts) {
    if (part.empty())
      throw UserError(key.empty() ? "command line" : key, "expected a dotted key such as training.max_steps, got an empty part",
                      "");
  }
  return parts;
}

// The place in `owner` that `part` names, made where a dict lacks it.
Value& step_into(Value& owner, const std::string& part, const std::string& so_far, const Location& location) {
  if (owner.kind == Value::Kind::kList) {
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    if (!is_integer(part)) {
      throw UserError(so_far, cat("expected an index from 0 to ", owner.items.size(), " - 1, got '", part, "'"),
                      "list items are named [0], [1], ...");
    }
    if (error != std::errc() || index >= owner.items.size()) {
      throw UserError(so_far, cat("list index out of range: expected less than ", owner.items.size(), ", got ", part),
                      "a whole list is replaced with " + so_far + "=[...]");
    }
    return owner.items[index];
  }
  if (owner.kind != Value::Kind::kDict) {
    owner = Value{};
    owner.kind = Value::Kind::kDict;
    owner.location = location;
  }
  if (Value* found = owner.find(part)) return *found;
  owner.entries.push_back({part, true, location, {}});
  return owner.entries.back().value;
}

}  // namespace

std::vector<std::string> parse_overrides(const std::vector<std::string>& arguments) {
  std::vector<std::string> overrides;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (is_dropped(argument)) {
      const bool has_value =
          argument.find('=') == std::string::npos && i + 1 < arguments.size() && is_integer(arguments[i + 1]);
      if (has_value) ++i;
      continue;
    }
    const bool dashes = argument.starts_with("--");
    const std::string body = dashes ? argument.substr(2) : argument;
    const std::size_t equals = body.find('=');
    const std::string key = trim(body.substr(0, equals));
    if (key.empty() || (!dashes && equals == std::string::npos) || key.starts_with('-')) {
      throw UserError("command line", "expected --key value, --key=value or key=value, got '" + argument + "'",
                      "keys are dotted, as in training.max_steps=10");
    }
    if (equals != std::string::npos) {
      overrides.push_back(key + "=" + body.substr(equals + 1));
      continue;
    }
    // A value may start with one dash (-1); two dashes start the next key.
    if (i + 1 >= arguments.size() || arguments[i + 1].starts_with("--")) {
      throw UserError(
          "command line",
          "expected a value after " + argument + (i + 1 < arguments.size() ? ", got " + arguments[i + 1] : ", got nothing"),
          "write " + argument + "=VALUE");
    }
    overrides.push_back(key + "=" + arguments[++i]);
  }
  return overrides;
}

void apply_override(Value& root, const std::string& key_value) {
  const std::size_t equals = key_value.find('=');
  const std::string key = key_value.substr(0, equals);
  const std::string text = equals == std::string::npos ? "" : key_value.substr(equals + 1);
  const auto source = std::make_shared<const std::string>("command line");
  const Location location{source, 0, 0};
  Value value;
  try {
    value = parse_yaml(text, "command line");
  } catch (const UserError& error) {
    throw UserError(key, "expected a YAML value, got '" + text + "' (command line): " + error.message(),
                    "put the value in quotes");
  }
  const std::function<void(Value&)> relocate = [&](Value& node) {
    node.location = location;
    for (Value& item : node.items) relocate(item);
    for (Entry& entry : node.entries) {
      entry.key_location = location;
      relocate(entry.value);
    }
  };
  relocate(value);

  const std::vector<std::string> parts = split_key(key);
  if (parts.size() >= 2 && parts[0] == "training") {
    for (const HfAlias& alias : hf_aliases()) {
      if (parts[1] != alias.name) continue;
      // As a source of its own: a tree with this one value, which rewriting turns into the config's own names.
      Value tree;
      Value* at = &tree;
      for (const std::string& part : parts) {
        at->kind = Value::Kind::kDict;
        at->location = location;
        at->entries.push_back({part, true, location, {}});
        at = &at->entries.back().value;
      }
      *at = std::move(value);
      rewrite_aliases(tree, root);
      merge_values(root, tree);
      return;
    }
  }

  Value* target = &root;
  std::string so_far;
  for (const std::string& part : parts) {
    target = &step_into(*target, part, so_far.empty() ? key : so_far, location);
    so_far += (so_far.empty() ? "" : ".") + part;
  }
  merge_values(*target, value);
}

}  // namespace oumi
