// The learning rate over the run, by Hugging Face's names and formulas (transformers.get_scheduler).
//
// Schedules of the step: linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup, inverse_sqrt,
// cosine_with_min_lr, cosine_warmup_with_min_lr, warmup_stable_decay. Schedules of a metric: reduce_lr_on_plateau, greedy.
#pragma once

#include <torch/optim/optimizer.h>

#include <memory>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/optim/lr_curve.h"
#include "oumi/optim/metric_schedule.h"

namespace oumi {

// Sets the learning rate of every group of an optimizer, which must outlive it. Constructing sets the rate of step 0;
// step() belongs after optimizer.step().
class LrScheduler {
 public:
  // Throws UserError for an unknown type (with the nearest), an unknown or missing kwarg, or a bad value.
  LrScheduler(torch::optim::Optimizer& optimizer, ScheduleOptions options);

  // The next step's rates. Schedules of a metric keep theirs.
  void step();
  // After an evaluation: feeds schedules of a metric; the others ignore it.
  void step_metric(double metric);
  // reduce_lr_on_plateau and greedy: they need step_metric.
  bool needs_metric() const noexcept { return metric_schedule_ != nullptr; }

  // The rates that the optimizer's groups have now: what the next optimizer.step() uses.
  std::vector<double> last_lr() const;
  const ScheduleOptions& options() const noexcept { return options_; }

  // PyTorch's field names (base_lrs, last_epoch, _step_count, _last_lr; those of ReduceLROnPlateau or GreedyLR) and "type".
  Json state_dict() const;
  // Also sets the optimizer's rates. The curve itself comes from the options, so a run may be extended; base rates come
  // from `state`. Throws UserError when the type, the number of groups or a field does not fit.
  void load_state_dict(const Json& state);

  // The rate of each of the first `steps` updates of a group whose base rate is `learning_rate`.
  static std::vector<double> preview(const ScheduleOptions& options, double learning_rate, std::int64_t steps);

 private:
  void apply_curve();
  void set_rates(const std::vector<double>& rates);

  torch::optim::Optimizer& optimizer_;
  ScheduleOptions options_;
  std::vector<double> base_lrs_;
  std::int64_t last_epoch_ = 0;
  LrCurve curve_;                                    // empty for schedules of a metric
  std::unique_ptr<MetricSchedule> metric_schedule_;  // null for schedules of the step
};

}  // namespace oumi
