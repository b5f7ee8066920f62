// For tests: ranks as threads of one process, over shared memory or, with OUMI_SHARED_MEMORY=0, Gloo on the loopback.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/distributed/process_group.h"

namespace oumi::testing {

inline std::int64_t free_port() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(descriptor, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(descriptor);
  return ntohs(address.sin_port);
}

inline const ProcessGroupOptions kQuick{.timeout = std::chrono::seconds(10), .join_timeout = std::chrono::seconds(20)};

// Runs `work` on `world_size` ranks and returns each one's error ("" for none).
inline std::vector<std::string> run_ranks(std::int64_t world_size, const ProcessGroupOptions& options,
                                          const std::function<void(std::shared_ptr<ProcessGroup>)>& work) {
  // c10d's flight recorder is one for the process and not made for several ranks in it: it would be written to without a lock.
  ::setenv("TORCH_FR_BUFFER_SIZE", "0", 1);
  const std::int64_t port = free_port();
  std::vector<std::string> errors(static_cast<std::size_t>(world_size));
  std::vector<std::thread> threads;
  for (std::int64_t rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        work(ProcessGroup::connect({.rank = rank, .world_size = world_size, .master_port = port}, options));
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = describe(error);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace oumi::testing
