// What the user typed, parsed; handed from the small executable to the verbs in liboumi_cli.so.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/launch/launch.h"

namespace oumi::cli {

struct CommandLine {
  std::string verb;                    // "train", "evaluate", ...
  std::string subverb;                 // of config, checkpoint, tokenizer and completion: "show", "verify", "bash"
  std::vector<std::string> configs;    // -c, later wins
  std::vector<std::string> overrides;  // as typed: --a.b value, --a.b=value, a.b=value
  std::vector<std::string> plugins;    // --plugin
  std::vector<std::string> arguments;  // of verbs that take none of the above: as typed
  std::map<std::string, std::vector<std::string>> options;  // of verbs with options of their own: "--name" to what was given
  std::vector<std::string> shortcuts;  // options that stand for overrides, as key=value; part of `overrides` too
  std::string output;                  // -o; tokenize --megatron
  std::string model;                   // infer and evaluate --model: wins over the config's model.model_name
  std::string input;                   // infer --input
  std::string multiple_choice;         // evaluate --multiple-choice
  LaunchOptions launch;                // of the verb launch
  bool overwrite = false;              // train and tokenize --overwrite
  bool json = false;                   // --json
  bool append_eod = false;             // tokenize --append-eod
  std::int64_t limit = -1;             // tokenize --limit; below zero: all
};

// Parses argv. Prints help or the version and returns an exit code through `exit_code` (>= 0) when that is all there is to do.
// Throws UserError for a wrong command line.
CommandLine parse_command_line(int argc, char** argv, int& exit_code);

}  // namespace oumi::cli

// The entry point of liboumi_cli.so. Runs a verb and returns the process's exit code; errors are printed to stderr.
extern "C" int oumi_cli_run(const oumi::cli::CommandLine* command_line);
