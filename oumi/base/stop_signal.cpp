#include "oumi/base/stop_signal.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace oumi {
namespace {

std::atomic<int> requested{0};
static_assert(std::atomic<int>::is_always_lock_free, "the handler may only touch lock-free atomics");

struct sigaction old_int{}, old_term{};

void on_signal(int signal) {
  if (requested.exchange(signal) == SIGINT && signal == SIGINT) _exit(128 + SIGINT);
}

}  // namespace

StopSignalScope::StopSignalScope() {
  requested = 0;
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &old_int);
  sigaction(SIGTERM, &action, &old_term);
}

StopSignalScope::~StopSignalScope() {
  sigaction(SIGINT, &old_int, nullptr);
  sigaction(SIGTERM, &old_term, nullptr);
}

int requested_stop_signal() noexcept { return requested.load(); }
void request_stop(int signal) noexcept { requested = signal; }

}  // namespace oumi
