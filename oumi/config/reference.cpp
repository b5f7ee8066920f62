#include "oumi/config/reference.h"

#include <algorithm>
#include <functional>

#include "oumi/base/strings.h"
#include "oumi/config/aliases.h"
#include "oumi/config/codec.h"
#include "oumi/config/inference_config.h"
#include "oumi/config/schema.h"
#include "oumi/config/support.h"
#include "oumi/config/training_config.h"
#include "oumi/config/yaml_writer.h"

namespace oumi {
namespace {

// A default where the reader has no file around it: "{}" and "[]" stay, dicts go on one line.
std::string one_line(const Json& value) {
  if (value.is_structured()) return value.dump();
  return trim(json_to_yaml(value));
}

// `defaults` are those of the section that `fields` belong to.
void collect(const std::string& prefix, FieldList fields, const Json& defaults, std::vector<KeyHelp>& out) {
  for (const Field& field : fields) {
    const std::string key = prefix.empty() ? field.name : prefix + "." + field.name;
    const Json& value = defaults.at(field.name);
    const FieldList children = field.type->children();
    const bool is_plain_section = !children.empty() && value.is_object();
    if (!is_plain_section)
      out.push_back({key, field.type->name(), field.required ? "(required)" : one_line(value), field.unit, field.help});
    if (!children.empty())
      collect(field.type->is_list ? key + "[]" : key, children, is_plain_section ? value : field.type->child_defaults(), out);
  }
}

std::vector<KeyHelp> generation_keys() {
  const GenerationParams defaults;
  const FieldList fields = fields_of(&defaults);
  std::vector<KeyHelp> keys;
  collect("generation", fields, write_fields(fields, &defaults), keys);
  return keys;
}

std::string in_table(std::string text) {
  for (std::size_t i = text.find('|'); i != std::string::npos; i = text.find('|', i + 2)) text.insert(i, "\\");
  return text;
}

// A heading and a table for each section.
void add_tables(const std::vector<KeyHelp>& keys, const std::function<std::string(const std::string&)>& help_of,
                std::string& out) {
  std::string section;
  for (const KeyHelp& key : keys) {
    const std::size_t dot = key.key.rfind('.');
    const std::string owner = key.key.substr(0, dot == std::string::npos ? 0 : dot);
    if (owner != section) {
      section = owner;
      out += "\n## `" + section + "`\n\n";
      if (const std::string help = help_of(section); !help.empty()) out += help + "\n\n";
      out += "| key | type | default | unit | |\n|---|---|---|---|---|\n";
    }
    const std::string shown = key.default_value == "(required)" ? "required" : "`" + key.default_value + "`";
    out += "| `" + key.key.substr(dot + 1) + "` | " + in_table(key.type) + " | " + in_table(shown) + " | " + key.unit + " | " +
           in_table(key.help) + " |\n";
  }
}

}  // namespace

std::vector<KeyHelp> config_keys() {
  const Json defaults = to_json(TrainingConfig{});
  std::vector<KeyHelp> keys;
  collect("", fields_of(static_cast<const TrainingConfig*>(nullptr)), defaults, keys);
  return keys;
}

std::string help_text() {
  std::string out;
  for (const KeyHelp& key : config_keys()) {
    const bool required = key.default_value == "(required)";
    out += key.key + " (" + key.type + (required ? ", required" : ", default " + key.default_value) + ")\n    " + key.help;
    if (!key.unit.empty()) out += " In " + key.unit + ".";
    out += '\n';
  }
  return out;
}

std::string config_reference_markdown() {
  std::string out =
      "# Config reference\n\n"
      "Generated from the field lists in `oumi/config`; a test holds this file to them, and regenerates it when it is run "
      "with\n"
      "`OUMI_UPDATE_GOLDEN=1`. Precedence: defaults, then config files in the order given, then overrides on the command line\n"
      "(`--training.max_steps 10`, `--training.max_steps=10` or `training.max_steps=10`). Dicts merge, lists are replaced.\n";
  add_tables(
      config_keys(),
      [](const std::string& section) {
        const Field* field = find_field(section);
        return field == nullptr ? std::string() : std::string(field->help);
      },
      out);
  add_tables(
      generation_keys(),
      [](const std::string&) {
        return "How `oumi-cpp infer` answers (inference.md). What is `null` comes from the model's generation_config.json. Its "
               "configs have\n"
               "`input_path`, `output_path`, `system_prompt` and `engine` (a local one) beside `model`, and may be training "
               "configs.";
      },
      out);
  out +=
      "\n## Other names of Hugging Face's arguments\n\nAccepted under `training.`, and written back under the config's own "
      "name.\n\n| name | becomes |\n|---|---|\n";
  for (const HfAlias& alias : hf_aliases()) {
    out +=
        std::string("| `") + alias.name + "` | " +
        (alias.kind == AliasKind::kUnused ? "no effect: " + std::string(alias.target) : "`" + std::string(alias.target) + "`") +
        " |\n";
  }
  out +=
      "\n## What becomes of a setting\n\n`config check` prints these for a config; training stops with exit code 2 where one "
      "is refused.\n\n" +
      support_table_markdown();
  return out;
}

}  // namespace oumi
