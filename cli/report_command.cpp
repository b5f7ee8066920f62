#include "cli/report_command.h"

#include <filesystem>
#include <iostream>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/telemetry/report.h"

namespace oumi::cli {

int report_command(const std::vector<std::string>& arguments) {
  std::filesystem::path output_dir, page;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "-o" || arguments[i] == "--output") {
      if (++i == arguments.size()) throw UserError("command line", "-o: expected a file name");
      page = arguments[i];
    } else if (output_dir.empty()) {
      output_dir = arguments[i];
    } else {
      throw UserError("command line", "report: expected one OUTPUT_DIR, got also '" + arguments[i] + "'",
                      "oumi-cpp report OUTPUT_DIR [-o FILE]");
    }
  }
  if (output_dir.empty())
    throw UserError("command line", "report: expected OUTPUT_DIR", "oumi-cpp report OUTPUT_DIR [-o FILE]");
  if (page.empty()) page = output_dir / "report.html";
  write_file_atomically(page, make_report(output_dir));
  std::cout << page.string() << '\n';
  return 0;
}

}  // namespace oumi::cli
