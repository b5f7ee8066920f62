// oumi-cpp completion bash|zsh|fish: a script that the shell reads.
#pragma once

#include <string>
#include <vector>

namespace oumi::cli {

enum class Shell { kBash, kZsh, kFish };

struct ConfigKeyHelp {
  std::string key;   // dotted: "training.max_steps"
  std::string help;  // one line; may be empty
};

// The script for `shell`. `keys` are offered after -c CONFIG as overrides: --training.max_steps.
std::string completion_script(Shell shell, const std::vector<ConfigKeyHelp>& keys);

// `arguments` are those after the verb: the shell's name. Prints the script to stdout. Returns 0; throws UserError.
int completion_command(const std::vector<std::string>& arguments);

}  // namespace oumi::cli
