// Errors that a user sees. The library throws; it never prints, aborts or exits. The command line turns what it catches
// into one line `error: [component] message`, one line `hint: ...`, and the exit code of the error's kind.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>

namespace oumi {

// Process exit codes; 128 + n stands for "stopped by signal n after a complete checkpoint".
enum class ExitCode : int { kDone = 0, kBug = 1, kUser = 2, kEnvironment = 3 };

// `component` is what a user can act on: a dotted config key, a file, a module path. `message` reads
// "what: expected ..., got ...". `hint` says what to do; may be empty.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, std::string component, std::string message, std::string hint);
  ExitCode exit_code() const noexcept { return exit_code_; }
  const std::string& component() const noexcept { return component_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& hint() const noexcept { return hint_; }

 private:
  ExitCode exit_code_;
  std::string component_, message_, hint_;
};

// The user's input is at fault: config, data, checkpoint, command line. Exit code 2.
class UserError : public Error {
 public:
  UserError(std::string component, std::string message, std::string hint = "");
};

// The environment is at fault: disk, memory, network, peers. Exit code 3.
class EnvironmentError : public Error {
 public:
  EnvironmentError(std::string component, std::string message, std::string hint = "");
};

// We are at fault. Exit code 1.
class InternalError : public Error {
 public:
  explicit InternalError(std::string message);
};

// Training stopped on request (SIGINT, SIGTERM) after its state was saved. Exit code 128 + signal.
class StoppedBySignal : public std::runtime_error {
 public:
  explicit StoppedBySignal(int signal);
  int signal() const noexcept { return signal_; }

 private:
  int signal_;
};

// Memory ran out: std::bad_alloc, or what LibTorch's CPU allocator and oneDNN say, whose errors have no types of their own.
bool is_out_of_memory(const std::exception& error) noexcept;

// Called while `error` is being handled: throws EnvironmentError naming `component` ("the backward pass") and the bytes that
// were asked for when it is about memory, and `error` itself otherwise.
[[noreturn]] void rethrow_naming_memory(const std::exception& error, const std::string& component);

// "error: [component] message" and, when there is a hint, a second line "hint: ...". Ends without a newline.
std::string describe(const std::exception& error);

// The exit code that belongs to `error`: the error's own; kEnvironment when memory ran out or the system refused (a file system
// error, a thread that can't start); kBug for anything unknown.
int exit_code_for(const std::exception& error) noexcept;

}  // namespace oumi
