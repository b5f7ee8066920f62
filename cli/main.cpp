// oumi-cpp: parses the command line, answers what needs no LibTorch itself (help, version, config show), and loads
// liboumi_cli.so for the rest: loading LibTorch alone takes a quarter of a second.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>

#include "cli/command_line.h"
#include "cli/config_command.h"
#include "cli/launch/launch.h"
#include "cli/new_command.h"
#include "oumi/base/error.h"

namespace {

using oumi::cli::CommandLine;

// Ends the process at once: all that lasts is written and closed by now, and undoing LibTorch's tens of thousands of
// registrations, which is all that is left to do, would be a tenth of a short run. A build with a sanitizer wants to look for
// leaks first.
[[noreturn]] void leave(int exit_code) {
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
#ifdef __SANITIZE_ADDRESS__
  std::exit(exit_code);
#else
  std::_Exit(exit_code);
#endif
}

[[noreturn]] void run_from_library(const CommandLine& line) {
  // Found through the executable's run path: beside it in a build, in ../lib when installed.
  void* library = dlopen("liboumi_cli.so", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    throw oumi::EnvironmentError("liboumi_cli.so", std::string("cannot be loaded: ") + dlerror(),
                                 "build or install the project again");
  }
  auto* run = reinterpret_cast<decltype(&oumi_cli_run)>(dlsym(library, "oumi_cli_run"));
  if (run == nullptr)
    throw oumi::EnvironmentError("liboumi_cli.so", "has no oumi_cli_run: it belongs to another version",
                                 "install the project again");
  leave(run(&line));
}

int run(int argc, char** argv) {
  int exit_code = -1;
  const CommandLine line = oumi::cli::parse_command_line(argc, argv, exit_code);
  if (exit_code >= 0) return exit_code;
  if (line.verb == "config" && line.subverb == "show") {
    return oumi::cli::config_show({line.configs.begin(), line.configs.end()}, line.overrides, std::cout);
  }
  if (line.verb == "launch") return oumi::cli::launch(line.launch);
  if (line.verb == "new") return oumi::cli::new_project(line.arguments.at(0), std::cout);
  run_from_library(line);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << oumi::describe(error) << '\n';
    return oumi::exit_code_for(error);
  }
}
