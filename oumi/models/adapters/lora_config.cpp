#include "oumi/models/adapters/lora_config.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <type_traits>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

std::regex compiled(const std::string& pattern, const std::string& where) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    throw UserError(where, "expected a regular expression, got '" + pattern + "' (" + error.what() + ")");
  }
}

// PEFT's keys of patterns match a name's end, whole parts of it.
template <class Value>
std::optional<Value> value_for(const std::vector<std::pair<std::string, Value>>& patterns, const std::string& module) {
  for (const auto& [pattern, value] : patterns) {
    if (std::regex_match(module, compiled("(.*\\.)?(" + pattern + ")", "adapter_config.json"))) return value;
  }
  return std::nullopt;
}

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw UserError(where, what, "supported: plain LoRA on linear layers, rsLoRA, modules_to_save, biases");
}

bool is_set(const Json& value) {
  return !(value.is_null() || value == false || value == Json::array() || value == Json::object() || value == "");
}

// Keys whose being set asks for another kind of adapter than plain LoRA.
constexpr const char* kOtherKinds[] = {"use_dora",
                                       "use_qalora",
                                       "use_bdlora",
                                       "lora_bias",
                                       "megatron_config",
                                       "layer_replication",
                                       "target_parameters",
                                       "trainable_token_indices",
                                       "alora_invocation_tokens",
                                       "arrow_config",
                                       "velora_config",
                                       "monteclora_config"};

std::vector<std::string> names_of(const Json& value, const std::string& where) {
  std::vector<std::string> names;
  for (const Json& name : value) {
    if (!name.is_string()) throw UserError(where, "expected a list of str, got " + json_type_name(name) + " in it");
    names.push_back(name.get<std::string>());
  }
  return names;
}

nn::LoraInit read_init(const Json& value, const std::string& where) {
  if (value.is_null() || value == true) return nn::LoraInit::kDefault;
  if (value == false) return nn::LoraInit::kRandom;
  const std::string word = value.is_string() ? to_lower(value.get<std::string>()) : value.dump();
  if (word == "gaussian") return nn::LoraInit::kGaussian;
  if (word == "eva" || word == "orthogonal")
    return nn::LoraInit::kDefault;  // how the training began; the weights are in the file
  refuse(where, "init_lora_weights: '" + word + "' changes the base weights, which the adapter's file does not hold");
}

}  // namespace

bool ModuleTargets::matches(const std::string& name) const {
  if (pattern) return std::regex_match(name, compiled(*pattern, "peft.lora_target_modules"));
  if (!names) return false;
  return std::any_of(names->begin(), names->end(),
                     [&](const std::string& target) { return name == target || name.ends_with("." + target); });
}

nn::LoraOptions LoraConfig::options_for(const std::string& module) const {
  const std::int64_t rank = value_for(rank_pattern, module).value_or(r);
  const double alpha = value_for(alpha_pattern, module).value_or(lora_alpha);
  const auto size = static_cast<double>(rank);
  return {.rank = rank, .scaling = use_rslora ? alpha / std::sqrt(size) : alpha / size, .dropout = lora_dropout, .init = init};
}

LoraConfig lora_config(const PeftParams& params) {
  LoraConfig config;
  config.r = params.lora_r;
  config.lora_alpha = static_cast<double>(params.lora_alpha);
  config.lora_dropout = params.lora_dropout;
  if (params.lora_target_parameters && !params.lora_target_parameters->empty()) {
    throw UserError(
        "peft.lora_target_parameters",
        "adapters on single parameters are not built: expected it unset, got " + params.lora_target_parameters->front(),
        "name modules in peft.lora_target_modules");
  }
  if (params.lora_target_modules) {
    const std::vector<std::string>& names = *params.lora_target_modules;
    if (names.size() == 1 && to_lower(names.front()) == "all-linear") {
      config.targets.all_linear = true;
    } else {
      config.targets.names = names;
    }
  }
  std::vector<std::string> excluded;
  for (const std::string& pattern : params.lora_exclude_modules.value_or(std::vector<std::string>{})) {
    compiled(pattern, "peft.lora_exclude_modules");
    excluded.push_back("(" + pattern + ")");
  }
  config.exclude = join(excluded, "|");
  config.modules_to_save = params.lora_modules_to_save.value_or(std::vector<std::string>{});
  config.bias = to_lower(params.lora_bias);
  switch (params.lora_init_weights) {
    case LoraWeightInitialization::kDefault: config.init = nn::LoraInit::kDefault; break;
    case LoraWeightInitialization::kRandom: config.init = nn::LoraInit::kRandom; break;
    case LoraWeightInitialization::kGaussian: config.init = nn::LoraInit::kGaussian; break;
    default:
      throw UserError("peft.lora_init_weights", "expected DEFAULT, GAUSSIAN or RANDOM, got " +
                                                    to_string(params.lora_init_weights) + ", which is not built");
  }
  config.task_type = to_string(params.lora_task_type);
  return config;
}

LoraConfig read_adapter_config(const std::filesystem::path& file) {
  const Json json = read_json_file(file);
  const std::string where = file.string();
  if (!json.is_object()) throw UserError(where, "expected a JSON object, got " + json_type_name(json));
  if (json.contains("peft_type") && json["peft_type"] != "LORA")
    refuse(where, "peft_type: expected \"LORA\", got " + json["peft_type"].dump());
  for (const char* key : kOtherKinds) {
    if (json.contains(key) && is_set(json[key])) refuse(where, cat(key, ": is not built, got ", json[key].dump()));
  }
  // The key's value; null when it is absent.
  const auto value_of = [&](const char* key) -> const Json& {
    static const Json kNull;
    const auto found = json.find(key);
    return found == json.end() ? kNull : *found;
  };
  const auto expect = [&](const char* key, bool fits, const char* expected) {
    if (!fits) throw UserError(where, cat(key, ": expected ", expected, ", got ", value_of(key).dump()));
  };
  const auto read = [&]<class T>(const char* key, T& target) {
    const Json& value = value_of(key);
    if (value.is_null()) return;
    if constexpr (std::is_same_v<T, std::string>) {
      expect(key, value.is_string(), "str");
    } else if constexpr (std::is_same_v<T, bool>) {
      expect(key, value.is_boolean(), "bool");
    } else {
      expect(key, std::is_integral_v<T> ? value.is_number_integer() : value.is_number(),
             std::is_integral_v<T> ? "int" : "float");
    }
    target = value.get<T>();
  };
  const auto read_pattern = [&]<class T>(const char* key, std::vector<std::pair<std::string, T>>& target) {
    const Json& value = value_of(key);
    if (value.is_null()) return;
    expect(key, value.is_object(), "dict");
    for (const auto& [pattern, number] : value.items()) {
      expect(key, number.is_number(), "numbers by module");
      target.emplace_back(pattern, number.template get<T>());
    }
  };
  LoraConfig config;
  read("r", config.r);
  read("lora_alpha", config.lora_alpha);
  read("lora_dropout", config.lora_dropout);
  read("bias", config.bias);
  read("use_rslora", config.use_rslora);
  read("task_type", config.task_type);
  read("base_model_name_or_path", config.base_model);
  read_pattern("rank_pattern", config.rank_pattern);
  read_pattern("alpha_pattern", config.alpha_pattern);
  config.init = read_init(value_of("init_lora_weights"), where);
  const Json& targets = value_of("target_modules");
  if (targets.is_string()) {
    config.targets.all_linear = targets == "all-linear";
    if (!config.targets.all_linear) config.targets.pattern = targets.get<std::string>();
  } else if (targets.is_array()) {
    config.targets.names = names_of(targets, where + ": target_modules");
  }
  if (const Json& exclude = value_of("exclude_modules"); exclude.is_string()) config.exclude = exclude.get<std::string>();
  if (const Json& saved = value_of("modules_to_save"); saved.is_array())
    config.modules_to_save = names_of(saved, where + ": modules_to_save");
  return config;
}

Json adapter_config_json(const LoraConfig& config, const std::vector<std::string>& adapted_modules, bool fan_in_fan_out) {
  // A whole alpha is an int in PEFT's own files.
  const auto number = [](double value) {
    return value == std::floor(value) ? Json(static_cast<std::int64_t>(value)) : Json(value);
  };
  Json init = true;
  if (config.init == nn::LoraInit::kGaussian) init = "gaussian";
  if (config.init == nn::LoraInit::kRandom) init = false;
  Json ranks = Json::object(), alphas = Json::object();
  for (const auto& [pattern, rank] : config.rank_pattern) ranks[pattern] = rank;
  for (const auto& [pattern, alpha] : config.alpha_pattern) alphas[pattern] = number(alpha);
  return Json{{"alpha_pattern", alphas},
              {"auto_mapping", nullptr},
              {"base_model_name_or_path", config.base_model.empty() ? Json() : Json(config.base_model)},
              {"bias", config.bias},
              {"exclude_modules", config.exclude.empty() ? Json() : Json(config.exclude)},
              {"fan_in_fan_out", fan_in_fan_out},
              {"inference_mode", true},
              {"init_lora_weights", init},
              {"layers_pattern", nullptr},
              {"layers_to_transform", nullptr},
              {"lora_alpha", number(config.lora_alpha)},
              {"lora_dropout", config.lora_dropout},
              {"modules_to_save", config.modules_to_save.empty() ? Json() : Json(config.modules_to_save)},
              {"peft_type", "LORA"},
              {"r", config.r},
              {"rank_pattern", ranks},
              {"revision", nullptr},
              {"target_modules", adapted_modules},
              {"task_type", config.task_type},
              {"use_dora", false},
              {"use_rslora", config.use_rslora}};
}

}  // namespace oumi
