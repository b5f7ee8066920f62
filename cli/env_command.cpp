#include "cli/env_command.h"

#include <iostream>

#include "oumi/base/error.h"

namespace oumi::cli {

int env_command(const std::vector<std::string>& arguments, const EnvironmentQuery& query) {
  bool json = false;
  for (const std::string& argument : arguments) {
    if (argument != "--json")
      throw UserError("command line", "env: unknown argument '" + argument + "'", "oumi-cpp env [--json]");
    json = true;
  }
  const Json environment = environment_info(query);
  std::cout << (json ? environment.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n" : environment_text(environment));
  return 0;
}

}  // namespace oumi::cli
