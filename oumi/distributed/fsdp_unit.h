// One unit of FSDP: parameters that are gathered and freed together. Internal.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "oumi/distributed/process_group.h"
#include "oumi/tensors/module.h"

namespace oumi {

// Parameters of one dtype, trained or frozen, in one buffer over all ranks.
class FlatParameters {
 public:
  struct Member {
    std::size_t index = 0;  // in the model's list of parameters
    Tensor parameter = {};
    Tensor view = {};  // of the buffer; made once: a view of a buffer without data can't be
    std::int64_t offset = 0, size = 0;  // elements in the buffer
  };

  // Takes the parameters over: afterwards they hold no data until gather.
  FlatParameters(ProcessGroup& group, std::vector<Member> members, bool trained, std::optional<at::ScalarType> compute_dtype);

  void start_gather();
  void finish_gather();
  void free();
  bool whole() const noexcept { return whole_; }

  // Hands this micro-batch's gradients over to be summed over ranks, and lets go of them.
  void start_reduce(std::int64_t ranks_in_mean);
  void finish_reduce();
  // The sum of what each copy of the model has.
  void add_up_copies(ProcessGroup& copies);
  void drop_gradients();

  // All elements over all ranks in the shards' dtype.
  Tensor gather_masters();
  // Points the parameters at `flat` (gather_masters), or back at the buffer.
  void point_to(const Tensor& flat);
  void point_to_buffer();

  const std::vector<Member>& members() const noexcept { return members_; }
  bool trained() const noexcept { return trained_; }
  Tensor& local() noexcept { return local_; }        // [part] of this rank, what the optimizer updates
  Tensor& gradient() noexcept { return gradient_; }  // [part], undefined before the first reduce
  std::int64_t first() const noexcept { return group_.rank() * part_; }  // of this rank's elements in the buffer
  std::int64_t part() const noexcept { return part_; }

 private:
  ProcessGroup& group_;
  std::vector<Member> members_;
  bool trained_;
  std::int64_t part_ = 0;
  Tensor local_, flat_, gradient_;
  PendingCollective gather_, reduce_;
  Tensor reduced_;
  bool whole_ = true;
};

}  // namespace oumi
