// Exponential moving average of the parameters, to evaluate and save with.
#pragma once

#include "oumi/optim/parameter_groups.h"

namespace oumi {

// average = decay * average + (1 - decay) * parameter after each update; starts as a copy of the parameters. Costs one
// copy of them.
class ExponentialMovingAverage {
 public:
  // Throws UserError unless 0 <= decay < 1.
  ExponentialMovingAverage(NamedParameters parameters, double decay);

  // Call after optimizer.step(). Throws InternalError while swapped in.
  void update();

  // Exchanges parameters and averages in place, tensor by tensor (peak extra memory: the largest tensor).
  void swap();
  bool swapped_in() const noexcept { return swapped_in_; }

  // The averages by parameter name; not copies. Throws InternalError while swapped in.
  StateDict state_dict() const;
  // Copies. Throws UserError naming the tensor that is missing, extra or of another shape or dtype; then nothing is changed.
  void load_state_dict(const StateDict& state);

 private:
  NamedParameters parameters_;
  std::vector<Tensor> averages_;
  double decay_;
  bool swapped_in_ = false;
};

// The averages stand in for the parameters for the scope's length.
class AveragedParameters {
 public:
  explicit AveragedParameters(ExponentialMovingAverage& average) : average_(average) { average_.swap(); }
  ~AveragedParameters() { average_.swap(); }
  AveragedParameters(const AveragedParameters&) = delete;
  AveragedParameters& operator=(const AveragedParameters&) = delete;

 private:
  ExponentialMovingAverage& average_;
};

}  // namespace oumi
