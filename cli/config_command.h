// oumi-cpp config show|check -c CONFIG [overrides]
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "oumi/config/training_config.h"

namespace oumi::cli {

// Prints the canonical YAML and nothing else. Checks keys, types and rules between fields, never paths, network or support.
// Returns the exit code 0; throws UserError.
int config_show(const std::vector<std::filesystem::path>& files, const std::vector<std::string>& overrides, std::ostream& out);

// Prints what becomes of each setting that was changed, and figures that follow from the config. A refused setting makes it
// return exit code 2 after everything was printed. The dry run of `config check` (model, data, one batch) comes after this.
int config_check(const std::vector<std::filesystem::path>& files, const std::vector<std::string>& overrides, std::ostream& out);

// The text that config_check prints for `config` on `world_size` ranks.
std::string check_report(const TrainingConfig& config, int world_size);

}  // namespace oumi::cli
