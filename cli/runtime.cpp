// The verbs of liboumi_cli.so: dispatch, and one place where errors become lines on stderr and exit codes.
#include <ATen/Version.h>
#include <torch/version.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <thread>

#include "cli/checkpoint_command.h"
#include "cli/command_line.h"
#include "cli/completion.h"
#include "cli/download_progress.h"
#include "cli/env_command.h"
#include "cli/report_command.h"
#include "cli/tokenizer_command.h"
#include "cli/train_commands.h"
#include "oumi/base/error.h"
#include "oumi/base/version.h"
#include "oumi/distributed/process_group.h"
#include "oumi/plugin/plugin.h"
#include "oumi/telemetry/logging.h"

namespace {

using oumi::cli::CommandLine;

int dispatch(const CommandLine& line) {
  oumi::cli::show_downloads();
  oumi::load_plugins(line.plugins);
  std::vector<std::string> arguments = line.arguments;
  if (line.json) arguments.emplace_back("--json");
  if (!line.output.empty()) arguments.insert(arguments.end(), {"-o", line.output});
  if (line.verb == "train") return oumi::cli::train_command(line);
  if (line.verb == "evaluate") return oumi::cli::evaluate_command(line);
  if (line.verb == "predict") return oumi::cli::predict_command(line);
  if (line.verb == "tokenize") return oumi::cli::tokenize_command(line);
  if (line.verb == "infer") return oumi::cli::infer_command(line);
  if (line.verb == "config") return oumi::cli::check_command(line);
  if (line.verb == "report") return oumi::cli::report_command(arguments);
  if (line.verb == "tokenizer") return oumi::cli::tokenizer_train_command(line.options);
  if (line.verb == "completion") return oumi::cli::completion_command(arguments);
  if (line.verb == "env")
    return oumi::cli::env_command(arguments, {.oumi_version = oumi::kVersion, .libraries = {{"LibTorch", TORCH_VERSION}}});
  if (line.verb == "checkpoint") {
    arguments = line.arguments;
    arguments.insert(arguments.end(), line.overrides.begin(), line.overrides.end());
    return oumi::cli::checkpoint_command(line.subverb, arguments);
  }
  throw oumi::InternalError("no verb " + line.verb);
}

// Threads of the communication library have nobody to throw to.
[[noreturn]] void explain_and_exit() {
  static std::atomic<bool> explaining{false};
  const std::exception_ptr current = std::current_exception();
  // One of them says it: the others wait for the end.
  if (current && explaining.exchange(true)) std::this_thread::sleep_for(std::chrono::seconds(10));
  try {
    if (current) std::rethrow_exception(current);
  } catch (const std::exception& error) {
    if (const auto known = oumi::explain_lost_thread(error)) {
      oumi::log_to_file(oumi::LogLevel::kError, oumi::describe(*known));
      std::cerr << oumi::describe(*known) << std::endl;
      std::_Exit(oumi::exit_code_for(*known));
    }
    std::cerr << oumi::describe(error) << std::endl;
  } catch (...) {
  }
  std::abort();
}

}  // namespace

extern "C" int oumi_cli_run(const CommandLine* line) {
  std::set_terminate(explain_and_exit);
  int exit_code = 0;
  try {
    exit_code = dispatch(*line);
  } catch (const oumi::StoppedBySignal& stopped) {
    std::cerr << "oumi-cpp: " << stopped.what() << "; a complete checkpoint is saved\n";
    exit_code = oumi::exit_code_for(stopped);
  } catch (const std::exception& error) {
    std::cerr << oumi::describe(error) << '\n';
    exit_code = oumi::exit_code_for(error);
  }
  oumi::shutdown_logging();
  return exit_code;
}
