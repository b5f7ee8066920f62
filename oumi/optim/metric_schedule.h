// Schedules that follow an evaluation metric. No torch.
#pragma once

#include <memory>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

class MetricSchedule {
 public:
  virtual ~MetricSchedule() = default;
  // Changes the groups' learning rates after an evaluation that gave `metric`.
  virtual void step(double metric, std::vector<double>& rates) = 0;
  // By the names of PyTorch's and Transformers' objects. Infinities and NaN are the words "inf", "-inf", "nan".
  virtual Json state_dict() const = 0;
  // Throws UserError naming a field that is missing or has a wrong type.
  virtual void load_state_dict(const Json& state) = 0;
};

// "reduce_lr_on_plateau" (torch.optim.lr_scheduler.ReduceLROnPlateau: mode, factor, patience, threshold, threshold_mode,
// cooldown, min_lr, eps) or "greedy" (transformers.GreedyLR, arXiv:2512.14527: the same, and warmup, max_lr, smooth,
// window_size, reset_start). `rates` are the groups' initial ones. Throws UserError for an unknown kwarg or a bad value.
std::unique_ptr<MetricSchedule> make_metric_schedule(const std::string& name, const Json& kwargs,
                                                     const std::vector<double>& rates);

// A double as JSON can hold it, and back.
Json number_to_json(double value);
double number_from_json(const Json& value, const std::string& field);

}  // namespace oumi
