// The config of a training run: Oumi's TrainingConfig tree with our additions. Immutable by convention once loaded: load_config
// has checked types, keys and cross-field rules; what ran is written back with to_yaml.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "oumi/config/data_params.h"
#include "oumi/config/model_params.h"
#include "oumi/config/parallel_params.h"
#include "oumi/config/peft_params.h"
#include "oumi/config/training_params.h"

namespace oumi {

struct TrainingConfig {
  DataParams data;
  ModelParams model;
  TrainingParams training;
  PeftParams peft;
  FSDPParams fsdp;
  DeepSpeedParams deepspeed;
  ParallelParams parallel;

  bool operator==(const TrainingConfig&) const = default;
};

FieldList fields_of(const TrainingConfig*);

// Reads the files in order (a later one wins), then the overrides ("training.max_steps=10", "--training.max_steps=10",
// "--training.max_steps", "10"; see overrides.h), over the defaults. OmegaConf's typing rules: dicts merge, lists are replaced,
// int never comes from a float. Throws UserError naming the dotted key, file, line and column for unknown keys, wrong types,
// missing required fields and broken cross-field rules. Touches no path named in the config and no network.
TrainingConfig load_config(const std::vector<std::filesystem::path>& files, const std::vector<std::string>& overrides = {});
TrainingConfig load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});

// The same from YAML text; `origin` names it in errors.
TrainingConfig load_config_text(const std::string& yaml, const std::string& origin = "config",
                                const std::vector<std::string>& overrides = {});

// Every field in declaration order. to_yaml is canonical: loading its text gives an equal config, and printing that gives the
// same bytes. YAML 1.1 readers (PyYAML, OmegaConf) and 1.2 readers take every value the same way.
Json to_json(const TrainingConfig& config);
std::string to_yaml(const TrainingConfig& config);

struct ConfigDifference {
  std::string key;     // dotted, list items as datasets[0].split
  Json before, after;  // null where the key is absent on one side
};

// The leaves in which two configs differ, in declaration order.
std::vector<ConfigDifference> diff(const TrainingConfig& before, const TrainingConfig& after);

}  // namespace oumi
