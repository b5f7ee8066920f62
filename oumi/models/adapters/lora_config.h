// LoRA's settings: from `peft:` of a config, and PEFT's adapter_config.json both ways.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/config/peft_params.h"
#include "oumi/nn/lora.h"

namespace oumi {

// How modules are chosen by their dotted name.
struct ModuleTargets {
  bool all_linear = false;                          // every linear layer but the head
  std::optional<std::vector<std::string>> names{};  // a name is one of these, or ends in "." and one of these
  std::optional<std::string> pattern{};             // a regular expression for the whole name; wins over `names`

  bool empty() const { return !all_linear && !names && !pattern; }
  bool matches(const std::string& name) const;
};

struct LoraConfig {
  std::int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0.0;
  ModuleTargets targets{};  // empty: the family's own (PEFT's table)
  std::string exclude{};    // a regular expression for the whole name; empty: nothing
  std::vector<std::string>
      modules_to_save{};      // trained in full and saved with the adapter: modules whose name ends in one of these
  std::string bias = "none";  // trained biases: none, all, lora_only (those of adapted layers)
  nn::LoraInit init = nn::LoraInit::kDefault;
  bool use_rslora = false;  // scale by alpha / sqrt(r)
  std::string task_type = "CAUSAL_LM";
  std::string base_model{};  // base_model_name_or_path
  // Ranks and alphas of single modules: (expression for the end of the name, value).
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern{};
  std::vector<std::pair<std::string, double>> alpha_pattern{};

  // What holds for the module of this name.
  nn::LoraOptions options_for(const std::string& module) const;
};

// Throws UserError naming peft.<field> for what is not built (other initialisations, target parameters).
LoraConfig lora_config(const PeftParams& params);

// PEFT's adapter_config.json. Reading throws UserError naming the file and key for kinds of adapters that are not built (DoRA,
// embeddings, PiSSA's changed base weights, ...). Writing names the modules that were adapted.
LoraConfig read_adapter_config(const std::filesystem::path& file);
Json adapter_config_json(const LoraConfig& config, const std::vector<std::string>& adapted_modules, bool fan_in_fan_out);

}  // namespace oumi
