// One unit of FSDP: parameters that are gathered and freed together. Internal.
#pragma once

#include <c10/core/Allocator.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "oumi/distributed/process_group.h"
#include "oumi/tensors/module.h"

namespace oumi {

// Memory of gathered units, used again by the next one of that size: allocated and freed for every unit, it would leave the
// heap full of holes.
class BufferPool {
 public:
  c10::DataPtr take(std::size_t bytes, c10::Allocator& allocator);
  void give(std::size_t bytes, c10::DataPtr buffer);

 private:
  std::map<std::size_t, std::vector<c10::DataPtr>> free_;
};

// Parameters of one dtype, trained or frozen, in one buffer over all ranks.
class FlatParameters {
 public:
  struct Member {
    std::size_t index = 0;  // in the model's list of parameters
    Tensor parameter = {};
    Tensor view = {};                   // of the buffer; made once: a view of a buffer without data can't be
    std::int64_t offset = 0, size = 0;  // elements in the buffer
  };

  // Takes the parameters over: afterwards they hold no data until gather.
  FlatParameters(ProcessGroup& group, BufferPool& pool, std::vector<Member> members, bool trained,
                 std::optional<at::ScalarType> compute_dtype);

  void start_gather();
  void finish_gather();
  void free();
  bool whole() const noexcept { return whole_; }

  // Hands this micro-batch's gradients over to be summed over ranks, and lets go of them.
  void start_reduce(std::int64_t ranks_in_mean);
  void finish_reduce();
  // The sum of what each copy of the model has; nothing is touched in between.
  void start_adding_copies(ProcessGroup& copies);
  void finish_adding_copies() { copies_.wait(); }
  void drop_gradients();

  // All elements over all ranks in the shards' dtype.
  Tensor gather_masters();
  // Points the parameters at `flat` (gather_masters), or back at the buffer.
  void point_to(const Tensor& flat);
  void point_to_buffer();

  const std::vector<Member>& members() const noexcept { return members_; }
  bool trained() const noexcept { return trained_; }
  Tensor& local() noexcept { return local_; }                            // [part] of this rank, what the optimizer updates
  Tensor& gradient() noexcept { return gradient_; }                      // [part], undefined before the first reduce
  std::int64_t first() const noexcept { return group_.rank() * part_; }  // of this rank's elements in the buffer
  std::int64_t part() const noexcept { return part_; }

 private:
  std::size_t buffer_bytes() const { return static_cast<std::size_t>(flat_.numel()) * flat_.element_size(); }

  ProcessGroup& group_;
  BufferPool& pool_;
  std::vector<Member> members_;
  bool trained_;
  std::int64_t part_ = 0;
  Tensor local_, flat_, gradient_;
  PendingCollective gather_, reduce_, copies_;
  Tensor reduced_;
  bool whole_ = true;
};

}  // namespace oumi
