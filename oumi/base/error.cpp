#include "oumi/base/error.h"

#include <csignal>
#include <cstring>
#include <filesystem>
#include <new>
#include <system_error>
#include <utility>

#include "oumi/base/text_bytes.h"

namespace oumi {

Error::Error(ExitCode code, std::string component, std::string message, std::string hint)
    : std::runtime_error("[" + component + "] " + message),
      exit_code_(code),
      component_(std::move(component)),
      message_(std::move(message)),
      hint_(std::move(hint)) {}

UserError::UserError(std::string component, std::string message, std::string hint)
    : Error(ExitCode::kUser, std::move(component), std::move(message), std::move(hint)) {}

EnvironmentError::EnvironmentError(std::string component, std::string message, std::string hint)
    : Error(ExitCode::kEnvironment, std::move(component), std::move(message), std::move(hint)) {}

InternalError::InternalError(std::string message)
    : Error(ExitCode::kBug, "internal", std::move(message), "this is a bug of oumi.cpp; please report it with the command") {}

StoppedBySignal::StoppedBySignal(int signal)
    : std::runtime_error(std::string("stopped by signal ") + strsignal(signal)), signal_(signal) {}

bool is_out_of_memory(const std::exception& error) noexcept {
  if (dynamic_cast<const Error*>(&error) != nullptr) return false;
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  // oneDNN says no more when it gets no memory for generated code.
  for (const char* sign : {"can't allocate memory", "could not create a primitive"}) {
    if (std::strstr(error.what(), sign) != nullptr) return true;
  }
  return false;
}

namespace {

constexpr const char* kMemoryHint = "lower the batch size, or raise the memory limit";

// "an allocation failed", or how much was asked for where the allocator says so.
std::string memory_message(const std::exception& error) {
  const std::string what = error.what();
  const auto begin = what.find("you tried to allocate ");
  if (begin == std::string::npos) return "out of memory: an allocation failed";
  return "out of memory: " + what.substr(begin, what.find_first_of(".\n", begin) - begin);
}

}  // namespace

void rethrow_naming_memory(const std::exception& error, const std::string& component) {
  if (is_out_of_memory(error)) throw EnvironmentError(component, memory_message(error), kMemoryHint);
  throw;
}

std::string describe(const std::exception& error) {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) {
    // What they quote of a file may hold anything.
    std::string text = "error: " + printable(ours->what());
    if (!ours->hint().empty()) text += "\nhint: " + printable(ours->hint());
    return text;
  }
  if (is_out_of_memory(error)) return "error: [memory] " + memory_message(error) + "\nhint: " + kMemoryHint;
  if (const auto* system = dynamic_cast<const std::filesystem::filesystem_error*>(&error))
    return "error: [" + printable(system->path1().string()) + "] " + system->code().message();
  // Third-party messages can carry a stack trace after the first line; one line is for the user.
  std::string what = error.what();
  return "error: [internal] " + printable(what.substr(0, what.find('\n')));
}

int exit_code_for(const std::exception& error) noexcept {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return static_cast<int>(ours->exit_code());
  if (const auto* stopped = dynamic_cast<const StoppedBySignal*>(&error)) return 128 + stopped->signal();
  if (is_out_of_memory(error)) return static_cast<int>(ExitCode::kEnvironment);
  // A folder that can't be listed, a thread that can't be started: the system said no.
  if (dynamic_cast<const std::system_error*>(&error) != nullptr) return static_cast<int>(ExitCode::kEnvironment);
  return static_cast<int>(ExitCode::kBug);
}

}  // namespace oumi
