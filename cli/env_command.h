// oumi-cpp env [--json]
#pragma once

#include <string>
#include <vector>

#include "oumi/telemetry/run_files.h"

namespace oumi::cli {

// `arguments` are those after the verb; `query` carries what only the caller knows (versions of LibTorch and others).
// Prints to stdout: text for people, or one JSON object. Returns the exit code 0; throws UserError.
int env_command(const std::vector<std::string>& arguments, const EnvironmentQuery& query);

}  // namespace oumi::cli
