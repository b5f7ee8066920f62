// Signs of life: every rank writes a beat into the store each second, from a thread of its own; a rank that is stopped, dead
// or cut off stops writing. Asked only after a collective has failed, to say who is missing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "oumi/distributed/c10d.h"

namespace oumi {

class PeerWatch {
 public:
  PeerWatch(c10::intrusive_ptr<c10d::Store> store, std::int64_t rank, std::int64_t world_size);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  void enter(const char* operation) noexcept { operation_ = operation; }
  void leave() noexcept { operation_ = ""; }
  void set_step(std::int64_t step) noexcept { step_ = step; }
  std::int64_t step() const noexcept { return step_; }

  // "no sign of life from rank 2 (last seen in the gradients after step 17)", or what the others are doing. Takes 2.5 s.
  std::string describe();

 private:
  void beat();

  c10::intrusive_ptr<c10d::Store> store_;
  const std::int64_t rank_, world_size_;
  std::atomic<const char*> operation_{""};
  std::atomic<std::int64_t> step_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace oumi
