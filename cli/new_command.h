// oumi-cpp new NAME
#pragma once

#include <iosfwd>
#include <string>

namespace oumi::cli {

// Writes the project of examples/02_custom_model under the given name (letters, digits and _; also the new folder) into the
// current folder and prints what to type next. Throws UserError for a bad name or an existing folder.
int new_project(const std::string& name, std::ostream& out);

}  // namespace oumi::cli
