// oumi-cpp train, evaluate, predict, infer, tokenize and config check.
#pragma once

#include "cli/command_line.h"

namespace oumi::cli {

int train_command(const CommandLine& line);
int evaluate_command(const CommandLine& line);
int predict_command(const CommandLine& line);
int infer_command(const CommandLine& line);
int check_command(const CommandLine& line);
int tokenize_command(const CommandLine& line);

}  // namespace oumi::cli
