// oumi-cpp: parses the command line, answers what needs no LibTorch itself (help, version, config show), and loads
// liboumi_cli.so for the rest: loading LibTorch alone takes a quarter of a second.
#include <dlfcn.h>
#include <malloc.h>

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <limits>

#include "cli/command_line.h"
#include "cli/config_command.h"
#include "cli/launch/launch.h"
#include "cli/new_command.h"
#include "oumi/base/error.h"

namespace {

using oumi::cli::CommandLine;

// Freed blocks stay with the process. A training step asks for the same blocks again; given back to the system in between, every page of them
// is cleared and mapped anew (a tenth of a language model's step). The usual variables (MALLOC_MMAP_THRESHOLD_, GLIBC_TUNABLES) come first.
void keep_freed_memory() {
#ifdef __GLIBC__
  for (const char* name : {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}) {
    if (std::getenv(name) != nullptr) return;
  }
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

int run_from_library(const CommandLine& line) {
  keep_freed_memory();
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
  return run(&line);
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
  return run_from_library(line);
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
