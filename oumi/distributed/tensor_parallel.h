// Tensor and sequence parallelism (Shoeybi et al. 2019, arXiv:1909.08053; Korthikanti et al. 2022, arXiv:2205.05198): a group
// of ranks that share each layer's matrices, and what they exchange in forward and backward.
//
// Outside of a block's two parts (attention, feed-forward) activations are whole and equal on all ranks; with sequence
// parallelism each rank has the tokens [r T / n, (r + 1) T / n) of [batch, T, hidden] there. Inside of the parts each rank has
// all tokens, and its share of heads and channels. `enter` and `leave` are the borders.
#pragma once

#include <memory>

#include "oumi/distributed/process_group.h"
#include "oumi/distributed/tensor_split.h"

namespace oumi {

struct TensorParallelOptions {
  bool sequence_parallel = false;
};

class TensorParallel : public std::enable_shared_from_this<TensorParallel> {
 public:
  static std::shared_ptr<const TensorParallel> create(std::shared_ptr<ProcessGroup> group,
                                                      const TensorParallelOptions& options = {});

  std::int64_t rank() const noexcept { return group_->rank(); }
  std::int64_t size() const noexcept { return group_->world_size(); }
  bool sequence_parallel() const noexcept { return options_.sequence_parallel; }
  ProcessGroup& group() const noexcept { return *group_; }

  // This rank's share of `count` heads or channels. Throws UserError naming `what` where the ranks don't divide it.
  std::int64_t share_of(std::int64_t count, const char* what) const;

  // --- differentiable; `hidden` is [batch, tokens, *], one shape on every rank ---
  // Before the first matrix of a part. Gradients that come back are summed over ranks. (Megatron: copy_to_tensor_model_parallel
  // _region; gather_from_sequence_parallel_region)
  Tensor enter(const Tensor& hidden) const;
  // After the last: sums what each rank's channels contribute. (reduce_from_..._region; reduce_scatter_to_sequence_...)
  Tensor leave(const Tensor& partial) const;
  // Whole and equal on all ranks -> how it is outside of the parts. (scatter_to_sequence_parallel_region)
  Tensor to_outside(const Tensor& whole) const;
  // A parameter that is whole on every rank, used on this rank's share alone: its gradient becomes the sum over ranks.
  Tensor sum_gradient(const Tensor& parameter) const;
  // The sum over ranks of values that each rank then uses: gradients are summed too.
  Tensor sum(const Tensor& partial) const;
  // [*, this rank's share of `size`] -> [*, size]. (gather_from_tensor_model_parallel_region)
  Tensor gather_last(const Tensor& local, std::int64_t size) const;

  // --- randomness. All ranks of the group draw the same from the default generator; ---
  // inside the parts each rank drops elements of its own (seeded by one draw from it, so that random state is kept, restored
  // and replayed with it alone),
  Tensor dropout_inside(const Tensor& input, double p, bool train) const;
  // and outside of them all drop the same, or with sequence parallelism each of its own tokens.
  Tensor dropout_outside(const Tensor& input, double p, bool train) const;

  // --- not differentiable ---
  // The whole of a parameter, on every rank.
  Tensor gather(const Tensor& local, const TensorSplit& split) const;

  TensorParallel(std::shared_ptr<ProcessGroup> group, const TensorParallelOptions& options)
      : group_(std::move(group)), options_(options) {}

 private:
  std::shared_ptr<ProcessGroup> group_;
  TensorParallelOptions options_;
};

using TensorParallelPtr = std::shared_ptr<const TensorParallel>;

}  // namespace oumi
