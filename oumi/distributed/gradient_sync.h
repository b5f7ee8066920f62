// Data parallelism: gradients averaged over ranks while backward still runs, on c10d's Reducer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "oumi/distributed/process_group.h"

namespace oumi {

struct GradientSyncOptions {
  std::int64_t bucket_bytes = 25 * 1024 * 1024;  // gradients are reduced in parts of about this size; the first is 1 MiB
  // Look for parameters that a forward did not use, at the cost of a walk over the graph for each backward. Without it such a
  // parameter is an error.
  bool find_unused_parameters = false;
};

// Averages gradients over ranks. The buckets never change after construction: another order of summation would round
// otherwise, and a resumed run would part from one that never stopped.
class GradientSync {
 public:
  // The parameters of every rank must be the same in number, order, shape and dtype (checked). The buckets take
  // one more copy of the gradients. Throws UserError where ranks differ.
  GradientSync(std::shared_ptr<ProcessGroup> group, const std::vector<std::pair<std::string, Tensor>>& parameters,
               const GradientSyncOptions& options);
  ~GradientSync();
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;

  // Before the backward after which gradients are to be the mean over ranks; its output is `loss`. A backward without this
  // call leaves gradients local, to accumulate.
  void before_backward(const Tensor& loss);

  // Runs a backward, with errors that name ranks.
  void backward(const Tensor& loss);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Sends rank 0's values to every rank, in place, several tensors at a time.
void broadcast_from_main(ProcessGroup& group, const std::vector<Tensor>& tensors, const char* what);

// Throws UserError, on every rank, when `text` (a description of the model, of the settings) differs between ranks.
void require_same_on_all_ranks(ProcessGroup& group, const std::string& text, const char* what);

}  // namespace oumi
