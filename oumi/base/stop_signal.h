// A request to stop by SIGINT or SIGTERM, polled by the training loop: the handler only sets a flag, so nothing is ever
// interrupted half-way.
#pragma once

namespace oumi {

// While one exists, SIGINT and SIGTERM set a flag instead of ending the process. A second SIGINT ends it at once with
// exit code 130 (the user insists; files on disk stay whole, since every write is atomic). Not reentrant: one at a time.
class StopSignalScope {
 public:
  StopSignalScope();
  ~StopSignalScope();
  StopSignalScope(const StopSignalScope&) = delete;
  StopSignalScope& operator=(const StopSignalScope&) = delete;
};

// The signal that asked to stop, or 0.
int requested_stop_signal() noexcept;

// As if `signal` had arrived; 0 withdraws the request. For tests and for programs with their own handlers.
void request_stop(int signal) noexcept;

}  // namespace oumi
