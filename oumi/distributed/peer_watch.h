// Signs of life: every rank writes a beat into the store each second, from a thread of its own, that says where it is; a rank
// that is stopped, dead or cut off stops writing. Read only after a collective has failed, to say who is missing, or which
// ranks make different calls.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "oumi/distributed/c10d.h"

namespace oumi {

// One collective: the `call`-th of the group that is named so.
struct CollectiveCall {
  std::string group;
  std::int64_t call = 0;
  const char* operation = "";
  std::int64_t bytes = 0;  // that this rank has for each of the others; 0: not known

  bool operator==(const CollectiveCall& other) const {
    return group == other.group && call == other.call && std::string(operation) == other.operation;
  }
};

class PeerWatch {
 public:
  static constexpr const char* kOtherSizes = "ranks that have other sizes";  // how describe() begins then

  PeerWatch(c10::intrusive_ptr<c10d::Store> store, std::int64_t rank, std::int64_t world_size);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  void enter(CollectiveCall call);
  void leave();
  void set_step(std::int64_t step) noexcept { step_ = step; }
  std::int64_t step() const noexcept { return step_; }
  std::int64_t rank() const noexcept { return rank_; }
  CollectiveCall place();

  // "no sign of life from rank 2 (last seen in the gradients after step 17)"; that ranks are out of step or have other sizes,
  // with the last calls of this one; or what the others are doing. Takes 2.5 s.
  std::string describe();

  // The names of the last few calls of this rank, the newest last: "the loss (8 bytes), the gradients (4000 bytes)".
  std::string recent_calls(bool with_bytes);

 private:
  void beat();

  c10::intrusive_ptr<c10d::Store> store_;
  const std::int64_t rank_, world_size_;
  std::atomic<std::int64_t> step_{0};
  std::mutex place_mutex_;
  CollectiveCall place_;               // an empty operation: computing
  std::deque<CollectiveCall> recent_;  // the last one is the newest
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace oumi
