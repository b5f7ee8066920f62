// The processes of a run and what they say to each other: collectives over c10d (on the CPU memory that ranks of one machine
// share, Gloo between machines; NCCL on GPUs), rendezvous over a TCP store at rank 0.
//
// Every collective is called by all ranks in the same order. One that fails or exceeds the timeout throws EnvironmentError
// naming this rank, the operation, the last completed step, and the ranks that give no sign of life or are in another call.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/distributed/rank_layout.h"
#include "oumi/tensors/tensor_dict.h"

namespace c10d {
class ProcessGroup;
}

namespace oumi {

enum class ReduceKind { kSum, kMax };

struct ProcessGroupOptions {
  std::chrono::milliseconds timeout = std::chrono::minutes(30);      // of one collective
  std::chrono::milliseconds join_timeout = std::chrono::minutes(5);  // for all ranks to arrive
  bool use_nccl = false;                                             // tensors on GPUs are reduced there
};

// A collective that is under way. Its tensors must stay alive and untouched until wait() has returned.
class PendingCollective {
 public:
  PendingCollective() = default;
  explicit PendingCollective(std::function<void()> wait) : wait_(std::move(wait)) {}
  // Once; does nothing when there is none.
  void wait() {
    if (auto wait = std::exchange(wait_, nullptr)) wait();
  }
  bool under_way() const noexcept { return wait_ != nullptr; }

 private:
  std::function<void()> wait_;
};

class ProcessGroup {
 public:
  // One process: collectives leave their tensors as they are.
  ProcessGroup();
  // Meets the other ranks. Throws EnvironmentError naming the ranks that did not come, or the address that does not answer.
  static std::shared_ptr<ProcessGroup> connect(const RankLayout& layout, const ProcessGroupOptions& options = {});
  // The group of `members` (ranks of this group, ascending, this one among them), whose own ranks are their positions. Every
  // rank of this group calls it, members with the same list and name, others with names of their own. Throws EnvironmentError.
  std::shared_ptr<ProcessGroup> subgroup(const std::vector<std::int64_t>& members, const std::string& name);
  // The same ranks once more, for one other thread of each: its collectives go on beside this group's, over the CPU, and are
  // neither in seconds_in_collectives nor what peers see a rank do. Every rank calls it. Throws EnvironmentError.
  std::shared_ptr<ProcessGroup> for_another_thread(const std::string& name);
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  std::int64_t rank() const noexcept;
  std::int64_t world_size() const noexcept;
  bool is_main() const noexcept { return rank() == 0; }
  const RankLayout& layout() const noexcept;

  // For messages: the update that all ranks have finished.
  void set_completed_step(std::int64_t step) noexcept;

  // --- tensors; all contiguous, of one dtype and size on every rank. `what` names the operation in errors ("the loss") ---
  void all_reduce(const Tensor& tensor, ReduceKind kind, const char* what);
  PendingCollective start_all_reduce(const Tensor& tensor, ReduceKind kind, const char* what);
  void broadcast(const Tensor& tensor, std::int64_t root, const char* what);
  // input [n] of each rank, in the order of ranks, into output [world_size * n].
  PendingCollective all_gather(const Tensor& output, const Tensor& input, const char* what);
  // Sums input [world_size * n] over ranks; rank r gets the r-th n of it in output [n].
  PendingCollective reduce_scatter(const Tensor& output, const Tensor& input, const char* what);

  // --- small values ---
  void barrier(const char* what);
  void sum(std::vector<double>& values, const char* what);
  // Compares the names and sizes of all calls of this group since the last max() too: EnvironmentError on all ranks where they
  // differ and nothing noticed. (Those that c10d makes itself, within guard(), are not among them.)
  std::vector<std::int64_t> max(std::vector<std::int64_t> values, const char* what);
  std::string broadcast_text(const std::string& text, const char* what);  // rank 0's
  std::vector<std::string> gather_text(const std::string& text, const char* what);

  // Runs `work` on rank 0 while the others wait. When it throws, all ranks throw the same error.
  void on_main(const std::function<void()>& work, const char* what);
  // Runs `work` on every rank. When it throws on one, all throw: ranks stay together.
  void on_all(const std::function<void()>& work, const char* what);

  // Runs `work`, which communicates through c10d itself, with this class's errors and what_ in them.
  // `bytes`: that this rank has for each of the others, where they have to be as many on all ranks.
  void guard(const char* what, const std::function<void()>& work, std::int64_t bytes = 0);

  // Seconds that this rank has spent in collectives of this group and of its subgroups, waiting for others included.
  double seconds_in_collectives() const noexcept;

  c10d::ProcessGroup* c10d() const noexcept;  // nullptr for one process

 private:
  struct State;
  std::shared_ptr<ProcessGroup> group_of(const std::vector<std::int64_t>& members, const std::string& name, bool aside);
  [[noreturn]] void fail(const char* what, const std::exception& cause);
  template <class Start>
  PendingCollective start(const Tensor& output, const Tensor& input, const char* what, Start&& start);
  std::unique_ptr<State> state_;
};

// What ended a thread of the communication library, as an error of this process; nullopt for anything else. Gloo throws in
// threads of its own, where nobody can catch it, when a rank is sent more than it has room for: the program's terminate handler
// is the place to ask. (A rank that is sent less than it has room for notices nothing;
// the next max() finds that.) Takes up to 8 s.
std::optional<EnvironmentError> explain_lost_thread(const std::exception& error);

}  // namespace oumi
