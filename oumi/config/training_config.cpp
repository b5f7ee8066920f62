#include "oumi/config/training_config.h"

#include "oumi/base/files.h"
#include "oumi/config/aliases.h"
#include "oumi/config/codec.h"
#include "oumi/config/overrides.h"
#include "oumi/config/validate.h"
#include "oumi/config/yaml_reader.h"
#include "oumi/config/yaml_writer.h"

namespace oumi {
namespace {

constexpr const TrainingConfig* kType = nullptr;

// Reads the whole tree into a fresh config, so that every source's types are checked while its locations are known.
TrainingConfig to_config(const Value& tree) {
  TrainingConfig config;
  read_fields(tree, "", fields_of(kType), &config);
  return config;
}

void merge_source(Value& tree, Value source, const std::string& origin) {
  if (source.kind == Value::Kind::kNull) return;  // an empty file sets nothing
  if (source.kind != Value::Kind::kDict) {
    throw UserError(origin, "expected sections such as model and training, got " + describe_value(source),
                    "is this a training config?");
  }
  rewrite_aliases(source, tree);
  merge_values(tree, source);
  to_config(tree);
}

const Value* find_value(const Value& tree, const std::string& dotted) {
  const Value* at = &tree;
  for (const std::string& part : split(dotted, '.')) {
    const std::size_t bracket = part.find('[');
    at = at->find(part.substr(0, bracket));
    if (at == nullptr) return nullptr;
    if (bracket != std::string::npos) {
      const auto index = static_cast<std::size_t>(std::stoul(part.substr(bracket + 1)));
      if (index >= at->items.size()) return nullptr;
      at = &at->items[index];
    }
  }
  return at;
}

TrainingConfig finish(Value& tree, const std::vector<std::string>& overrides) {
  for (const std::string& override_text : parse_overrides(overrides)) {
    apply_override(tree, override_text);
    to_config(tree);
  }
  TrainingConfig config = to_config(tree);
  try {
    // YAML 1.1 reads a bare `no` as a boolean, and OmegaConf then makes it the word "False": the strategies mean no.
    for (std::string* strategy : {&config.training.eval_strategy, &config.training.logging_strategy}) {
      if (*strategy == "False") *strategy = "no";
    }
    if (config.training.save_strategy == "False") config.training.save_strategy = "no";
    validate(config);
  } catch (const UserError& error) {
    // Rules see values alone; the tree knows where they were written.
    const Value* value = find_value(tree, error.component());
    if (value == nullptr || value->location.text().empty()) throw;
    throw UserError(error.component(), error.message() + at(value->location), error.hint());
  }
  return config;
}

Value default_tree() { return value_from_json(to_json(TrainingConfig{})); }

void compare(const std::string& key, FieldList fields, const Json& before, const Json& after,
             std::vector<ConfigDifference>& out);

void compare_value(const std::string& key, FieldList children, bool is_list, const Json& before, const Json& after,
                   std::vector<ConfigDifference>& out) {
  if (before == after) return;
  if (is_list && !children.empty() && before.is_array() && after.is_array()) {
    for (std::size_t i = 0; i < std::max(before.size(), after.size()); ++i) {
      const Json absent;
      compare_value(cat(key, "[", i, "]"), children, false, i < before.size() ? before[i] : absent,
                    i < after.size() ? after[i] : absent, out);
    }
  } else if (!children.empty() && before.is_object() && after.is_object()) {
    compare(key, children, before, after, out);
  } else if (before.is_object() && after.is_object()) {  // a dict field: by key
    const Json absent;
    for (const auto& [name, value] : before.items()) {
      compare_value(key + "." + name, {}, false, value, after.contains(name) ? after[name] : absent, out);
    }
    for (const auto& [name, value] : after.items()) {
      if (!before.contains(name)) out.push_back({key + "." + name, absent, value});
    }
  } else {
    out.push_back({key, before, after});
  }
}

void compare(const std::string& key, FieldList fields, const Json& before, const Json& after,
             std::vector<ConfigDifference>& out) {
  for (const Field& field : fields) {
    compare_value(key.empty() ? field.name : key + "." + field.name, field.type->children(), field.type->is_list,
                  before.at(field.name), after.at(field.name), out);
  }
}

}  // namespace

FieldList fields_of(const TrainingConfig*) {
  using P = TrainingConfig;
  static constexpr Field kFields[] = {
      field<&P::data>("data", "", "Datasets, and how their samples become batches."),
      field<&P::model>("model", "", "The model, its tokenizer and its weights."),
      field<&P::training>("training", "", "The run: steps, optimizer, logging, evaluation, checkpoints."),
      field<&P::peft>("peft", "", "Adapters and quantised base weights."),
      field<&P::fsdp>("fsdp", "", "Fully sharded data parallelism."),
      field<&P::deepspeed>("deepspeed", "", "DeepSpeed's names for ZeRO."),
      field<&P::parallel>("parallel", "", "Model-parallel layouts."),
  };
  return kFields;
}

TrainingConfig load_config(const std::vector<std::filesystem::path>& files, const std::vector<std::string>& overrides) {
  Value tree = default_tree();
  for (const std::filesystem::path& file : files) {
    merge_source(tree, parse_yaml(read_text_file(file), file.string()), file.string());
  }
  return finish(tree, overrides);
}

TrainingConfig load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  return load_config(std::vector{file}, overrides);
}

TrainingConfig load_config_text(const std::string& yaml, const std::string& origin, const std::vector<std::string>& overrides) {
  Value tree = default_tree();
  merge_source(tree, parse_yaml(yaml, origin), origin);
  return finish(tree, overrides);
}

Json to_json(const TrainingConfig& config) { return write_fields(fields_of(kType), &config); }

std::string to_yaml(const TrainingConfig& config) { return json_to_yaml(to_json(config)); }

std::vector<ConfigDifference> diff(const TrainingConfig& before, const TrainingConfig& after) {
  std::vector<ConfigDifference> differences;
  compare("", fields_of(kType), to_json(before), to_json(after), differences);
  return differences;
}

}  // namespace oumi
