// The text in files that a tokenizer is trained on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace oumi::text {

// Names of files with plain text. What .json and .jsonl files hold is written to `scratch` first: every string but the values
// of role, type and *id, one after the other with a line end between them. Throws UserError naming file and line.
std::vector<std::string> training_files(const std::vector<std::filesystem::path>& files, const std::filesystem::path& scratch);

}  // namespace oumi::text
