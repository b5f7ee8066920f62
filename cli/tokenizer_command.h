// oumi-cpp tokenizer train --files F... --vocab-size N --out DIR
#pragma once

#include <map>
#include <string>
#include <vector>

namespace oumi::cli {

// `options` are those of the command line by name. Writes the folder and prints what lies there; a line on stderr when the text
// gave fewer tokens than were asked for. Returns the exit code 0; throws UserError and EnvironmentError.
int tokenizer_train_command(const std::map<std::string, std::vector<std::string>>& options);

}  // namespace oumi::cli
