// oumi-cpp checkpoint verify PATH [--json]
// oumi-cpp checkpoint convert PATH --to safetensors|pt|hf [-o OUTPUT] [--max-shard-size 5GB] [--overwrite]
#pragma once

#include <string>
#include <vector>

namespace oumi::cli {

// `subverb` is verify or convert, `arguments` those after it. Prints to stdout.
//
// verify takes a checkpoint-N, or an output_dir with some: one line a file, OK or BAD with what was expected; exit code 0, or 2
// when anything is bad. convert writes weights in another format, or with `hf` the optimizer.pt and scheduler.pt from which a
// Hugging Face Trainer resumes; it prints what it wrote. Throws UserError and EnvironmentError.
int checkpoint_command(const std::string& subverb, const std::vector<std::string>& arguments);

}  // namespace oumi::cli
