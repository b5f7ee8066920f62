// oumi-cpp report OUTPUT_DIR [-o FILE]
#pragma once

#include <string>
#include <vector>

namespace oumi::cli {

// `arguments` are those after the verb. Writes the page (default: OUTPUT_DIR/report.html) and prints its path. Returns the
// exit code 0; throws UserError and EnvironmentError.
int report_command(const std::vector<std::string>& arguments);

}  // namespace oumi::cli
